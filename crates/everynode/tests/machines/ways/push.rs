//! Daemons that send what they gather to a central service, by its name.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{busybox, get, wait_for};

use super::{daemon, headless, package};
use crate::fleet;

const RSYSLOG: &str = "docker.io/rsyslog/rsyslog:8.2302";
const COLLECTD: &str = "docker.io/collectd/collectd:5.12.0";
const INFLUXDB: &str = "docker.io/library/influxdb:1.6.7";

/// Prints one line, which nothing but its log holds.
const TALKER: &str = "docker.io/library/talker:1";

/// Reads what containers of the node print and sends each line, with the node's name before it.
const COLLECTOR_CONF: &str = r#"
global(workDirectory="/tmp")
module(load="imfile")
template(name="line" type="string" string="%$.node% %msg%")
input(type="imfile" File="/var/log/containers/talker-*_default_main-*.log" Tag="containers:")
set $.node = getenv("NODE_NAME");
action(type="omfwd" target="central.default.svc.cluster.local" port="514" protocol="tcp" template="line"
       action.resumeRetryCount="-1" action.resumeInterval="1")
"#;
/// Writes what comes as it comes.
const CENTRAL_CONF: &str = r#"
global(workDirectory="/tmp")
module(load="imtcp")
template(name="raw" type="string" string="%rawmsg%\n")
input(type="imtcp" port="514")
action(type="omfile" file="/out/all.log" template="raw")
"#;

#[test]
fn log_collectors_on_every_node_push_to_a_central_one() -> Result<()> {
    let Some(package) = package("rsyslog") else {
        return Ok(());
    };
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    let files = [
        ("/etc/collector.conf", COLLECTOR_CONF),
        ("/etc/central.conf", CENTRAL_CONF),
    ];
    let image = package.image(fleet.topology().folder(), RSYSLOG, &["sh"], &files)?;
    fleet.import(&image)?;
    let command = |conf: &'static str| ["/usr/sbin/rsyslogd", "-n", "-iNONE", "-f", conf];
    fleet.apply(&headless("central", json!([{"name": "syslog", "port": 514}])));
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "central", "labels": {"app": "central"}},
        "spec": {
            "nodeName": "node-1", "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": RSYSLOG, "command": command("/etc/central.conf"),
                "readinessProbe": {"tcpSocket": {"port": 514}, "periodSeconds": 1},
                "volumeMounts": [{"name": "out", "mountPath": "/out"}],
            }],
            "volumes": [{"name": "out", "hostPath": {"path": "/var/log/central", "type": "DirectoryOrCreate"}}],
        },
    }));
    fleet.running("central", 1)?;
    fleet.apply(&daemon(
        "collector",
        RSYSLOG,
        &command("/etc/collector.conf"),
        |spec| {
            let main = &mut spec["containers"][0];
            main["env"] =
                json!([{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]);
            main["volumeMounts"] = json!([{"name": "varlog", "mountPath": "/var/log", "readOnly": true}]);
            spec["volumes"] = json!([{"name": "varlog", "hostPath": {"path": "/var/log"}}]);
        },
    ));
    fleet.running("collector", 3)?;
    fleet.import(&busybox(fleet.topology().folder(), TALKER, &["sh"])?)?;
    let say = ["sh", "-c", "echo said by $NODE_NAME; exec sleep 1000"];
    fleet.apply(&daemon("talker", TALKER, &say, |spec| {
        spec["containers"][0]["env"] =
            json!([{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]);
    }));
    fleet.running("talker", 3)?;
    let nodes = fleet.nodes().iter().map(|node| node.machine.name());
    let expected: BTreeSet<String> = nodes
        .map(|name| format!("{name} stdout F said by {name}"))
        .collect();
    let out = fleet.nodes()[0].machine.file("/var/log/central/all.log");
    wait_for("the central collector to have every node's line", || {
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        // The node, the record's time, and the rest of the record.
        let lines: BTreeSet<String> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.splitn(3, ' ');
                Some(format!("{} {}", words.next()?, words.nth(1)?))
            })
            .collect();
        Ok(if lines == expected {
            Ok(())
        } else {
            Err(format!("{lines:#?}"))
        })
    })
}

/// What each node's statistics daemon gathers, and whom it sends it to. Its own name comes from the node's.
const COLLECTD_CONF: &str = r#"
FQDNLookup false
Interval 1
LoadPlugin logfile
LoadPlugin load
LoadPlugin memory
LoadPlugin network
<Plugin logfile>
  File stderr
</Plugin>
<Plugin network>
  Server "influxdb.default.svc.cluster.local" "25826"
</Plugin>
"#;
/// Takes in what collectd sends, as it comes.
const INFLUXDB_CONF: &str = r#"
reporting-disabled = true
[meta]
dir = "/tmp/meta"
[data]
dir = "/tmp/data"
wal-dir = "/tmp/wal"
[http]
bind-address = ":8086"
[[collectd]]
enabled = true
bind-address = ":25826"
database = "collectd"
typesdb = "/etc/types.db"
batch-size = 1
batch-timeout = "1s"
"#;
/// collectd takes a name with a hyphen only in quotes.
const COLLECT: &str = "(echo \"Hostname \\\"$NODE_NAME\\\"\"; cat /etc/collectd.conf) > /tmp/collectd.conf; \
                       exec /usr/sbin/collectd -f -C /tmp/collectd.conf -P /tmp/pid";

#[test]
fn statistics_daemons_on_every_node_push_to_a_central_database() -> Result<()> {
    let (Some(collectd), Some(influxdb)) = (package("collectd-core"), package("influxdb")) else {
        return Ok(());
    };
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    let folder = fleet.topology().folder().to_owned();
    let files = [("/etc/collectd.conf", COLLECTD_CONF)];
    fleet.import(&collectd.image(&folder, COLLECTD, &["sh"], &files)?)?;
    let types = std::fs::read_to_string(collectd.file("/usr/share/collectd/types.db"))?;
    let files = [
        ("/etc/influxdb.conf", INFLUXDB_CONF),
        ("/etc/types.db", types.as_str()),
    ];
    fleet.import_on(1, &influxdb.image(&folder, INFLUXDB, &["sh"], &files)?)?;
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "influxdb"},
        "spec": {"selector": {"app": "influxdb"}, "ports": [{"port": 25826, "protocol": "UDP"}]},
    }));
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "influxdb", "labels": {"app": "influxdb"}},
        "spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "main", "image": INFLUXDB, "command": ["/usr/bin/influxd", "-config", "/etc/influxdb.conf"],
            "ports": [{"containerPort": 8086, "hostPort": 8086}],
            "readinessProbe": {"httpGet": {"path": "/ping", "port": 8086}, "periodSeconds": 1},
        }]},
    }));
    fleet.running("influxdb", 1)?;
    fleet.apply(&daemon("collectd", COLLECTD, &["sh", "-c", COLLECT], |spec| {
        spec["containers"][0]["env"] =
            json!([{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]);
    }));
    fleet.running("collectd", 3)?;
    let database = SocketAddr::from((fleet.nodes()[0].machine.address(), 8086));
    for series in ["load_shortterm", "memory_value"] {
        wait_for(&format!("{series} of every node, and of no other"), || {
            let hosts = hosts(database, series)?;
            let every = hosts.iter().eq(["node-1", "node-2", "node-3"]);
            Ok(if every { Ok(()) } else { Err(format!("{hosts:?}")) })
        })?;
    }
    Ok(())
}

/// The hosts of which InfluxDB has the series.
fn hosts(database: SocketAddr, series: &str) -> Result<BTreeSet<String>> {
    let query = format!("/query?db=collectd&q=SHOW+TAG+VALUES+FROM+{series}+WITH+KEY+%3D+host");
    let answer: Value = serde_json::from_str(&get(database, &query)?)?;
    let rows = answer
        .pointer("/results/0/series/0/values")
        .and_then(Value::as_array);
    let hosts = rows.into_iter().flatten().filter_map(|row| row[1].as_str());
    Ok(hosts.map(str::to_owned).collect())
}
