//! Names, as programs in real containers ask for them: the C library's resolver and busybox's.

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{CLUSTER_DNS, Cluster, NODE};
use kube::api::LogParams;
use runtime::ScratchFile;
use serde_json::{Value, json};

const IMAGE: &str = "test.example/resolvers:1";
/// Asks until the answer is there: the node hears of an object somewhat later than its creator.
const SCRIPT_HEAD: &str = "PATH=/bin; all() { getent ahostsv4 $1 | cut -d' ' -f1 | sort -u; }
    find() { until test \"$(all $1 | tr '\\n' ' ')\" = \"$2 \"; do sleep 0.2; done; echo found $1; }
    ";

/// A cluster whose node has an image with busybox and the C library's `getent`.
async fn start() -> Cluster {
    let mut cluster = Cluster::start().await;
    cluster.stop_agent().await;
    let file = |path: &str, source: &str| ScratchFile {
        path: path.into(),
        source: source.into(),
        mode: 0o755,
    };
    let mut files = vec![
        file("/bin/busybox", "/bin/busybox"),
        file("/bin/getent", "/usr/bin/getent"),
    ];
    let listed = Command::new("ldd")
        .arg("/usr/bin/getent")
        .output()
        .unwrap()
        .stdout;
    let libraries = String::from_utf8(listed).unwrap();
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    files.extend(paths.map(|path| file(path, path)));
    for applet in [
        "cut", "sort", "tr", "sleep", "nslookup", "wc", "cat", "test", "grep", "hostname",
    ] {
        files.push(file(&format!("/bin/{applet}"), "/bin/busybox"));
    }
    let images = runtime::Images::open(&cluster.options.data_dir).unwrap();
    images
        .import_scratch(IMAGE, &files, &["/bin/busybox".to_owned()])
        .unwrap();
    cluster.start_agent();
    cluster
}

/// Runs a script beside the shell's own functions.
fn resolving(script: &str) -> Value {
    let script = format!("{SCRIPT_HEAD}{script}");
    json!({"name": "c", "image": IMAGE, "command": ["/bin/busybox", "sh", "-c", script]})
}

async fn service(cluster: &Cluster, name: &str, spec: Value) {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    cluster
        .object("/api/v1/namespaces/default/services", service)
        .await;
}

/// Endpoints of a Service: addresses, and the node that each is on.
async fn slice(cluster: &Cluster, service: &str, number: usize, endpoints: &[(String, &str)]) {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, node)| json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true}}))
        .collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-{number}"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "metrics", "protocol": "TCP", "port": 9100}],
        "endpoints": endpoints,
    });
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    cluster.object(path, slice).await;
}

async fn fill(cluster: &Cluster) {
    let ports = json!([{"name": "http", "port": 80}]);
    service(cluster, "web", json!({"clusterIP": "10.96.77.1", "ports": ports})).await;
    service(cluster, "agents", json!({"clusterIP": "None"})).await;
    let nodes = [
        ("192.0.2.1".to_owned(), NODE),
        ("192.0.2.2".to_owned(), "rack1.example.org"),
    ];
    slice(cluster, "agents", 0, &nodes).await;
    service(cluster, "many", json!({"clusterIP": "None"})).await;
    for number in 0..3 {
        let endpoints: Vec<(String, &str)> = (0..100)
            .map(|last| (format!("198.51.{number}.{last}"), NODE))
            .collect();
        slice(cluster, "many", number, &endpoints).await;
    }
}

async fn ended(cluster: &Cluster, name: &str) -> String {
    cluster
        .until_log(name, &LogParams::default(), |log| log.ends_with("end\n"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_find_services_and_each_node_s_daemon_by_name() {
    let cluster = start().await;
    fill(&cluster).await;
    // 300 addresses do not fit into a packet: the C library asks again by TCP.
    let script = "find web 10.96.77.1; find web.default 10.96.77.1; find kubernetes.default.svc 10.96.0.1
        find node-1.agents 192.0.2.1; find rack1.example.org.agents 192.0.2.2
        find agents.default.svc.cluster.local '192.0.2.1 192.0.2.2'
        until test $(all many | wc -l) = 300; do sleep 0.2; done
        getent hosts 10.96.77.1 | tr -s ' '
        getent ahostsv4 nothing.default.svc.cluster.local || echo nothing
        nslookup -type=srv _metrics._tcp.node-1.agents.default.svc.cluster.local | grep -c 9100
        nslookup kube-dns.kube-system.svc.cluster.local | grep -c 10.96.0.10
        grep -v '^#' /etc/resolv.conf | grep nameserver
        echo end";
    let pods = [
        ("own", json!({})),
        (
            "host",
            json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
        ),
    ];
    for (name, mut spec) in pods {
        spec["containers"] = json!([resolving(script)]);
        spec["restartPolicy"] = "Never".into();
        cluster.create(name, spec).await;
        let log = ended(&cluster, name).await;
        let found = [
            "web",
            "web.default",
            "kubernetes.default.svc",
            "node-1.agents",
            "rack1.example.org.agents",
            "agents.default.svc.cluster.local",
        ];
        let found: String = found.iter().map(|name| format!("found {name}\n")).collect();
        let rest = log
            .strip_prefix(&found)
            .unwrap_or_else(|| panic!("{name}: {log}"));
        let lines: Vec<&str> = rest.lines().collect();
        assert_eq!(
            lines[..2],
            ["10.96.77.1 web.default.svc.cluster.local", "nothing"],
            "{name}: {log}"
        );
        assert_eq!(lines[2], "1", "{name}: {log}");
        // nslookup also names the server itself when that is the address.
        assert!(["1", "2", "3"].contains(&lines[3]), "{name}: {log}");
        let server = lines[4].strip_prefix("nameserver ").expect("a name server");
        match name {
            "own" => assert_eq!(server, CLUSTER_DNS.to_string()),
            _ => assert!(server.starts_with("127.96."), "{log}"),
        }
        let events = cluster.events(name).await;
        assert!(
            !events.iter().any(|event| event.starts_with("MissingClusterDNS")),
            "{events:#?}"
        );
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_go_on_without_the_server_and_come_back_with_the_agent() {
    let mut cluster = start().await;
    cluster.stop_agent().await;
    cluster.options.client = cluster.remote_node().await;
    cluster.start_agent();
    fill(&cluster).await;
    let gate = tempfile::tempdir().unwrap();
    let script = "find web 10.96.77.1; echo first
        until test -e /gate/restarted; do sleep 0.1; done; find web 10.96.77.1; echo second
        until test -e /gate/lost; do sleep 0.1; done; find node-1.agents 192.0.2.1; echo third; echo > /gate/third
        sleep 1000";
    let mut container = resolving(script);
    container["volumeMounts"] = json!([{"name": "gate", "mountPath": "/gate"}]);
    let volumes = json!([{"name": "gate", "hostPath": {"path": gate.path()}}]);
    cluster
        .create("asking", json!({"containers": [container], "volumes": volumes}))
        .await;
    let says = |word: &'static str| move |log: &str| log.contains(word);
    cluster
        .until_log("asking", &LogParams::default(), says("first"))
        .await;
    cluster.stop_agent().await;
    cluster.start_agent();
    std::fs::write(gate.path().join("restarted"), "").unwrap();
    cluster
        .until_log("asking", &LogParams::default(), says("second"))
        .await;
    let node = cluster.lose_server().await;
    std::fs::write(gate.path().join("lost"), "").unwrap();
    let third: PathBuf = gate.path().join("third");
    let look = async || {
        third
            .exists()
            .then_some(())
            .ok_or_else(|| "no answer yet".to_owned())
    };
    testkit::wait_for_async("an answer without the server", look)
        .await
        .unwrap();
    node.finish().await;
}
