//! A node whose agent starts while no server answers.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Fleet, eventually, programs, report, wait_for};

use crate::{CURL, PAGE, fleet, identity, page};

/// Asks the Service by its name, over and over, and leaves the last answer where the machine sees it.
const ASK: &str = "while :; do curl -s -f --max-time 2 http://page.default.svc.cluster.local/ > /out/next && mv /out/next /out/answer; sleep 0.2; done";
/// Where that is on the machine.
const OUT: &str = "/var/lib/out";
/// How often the server is asked for the truth while the node is to be seen to change nothing.
const LOOKS: u32 = 10;

/// The daemon's command line, and that of the pod which takes nothing from elsewhere.
const HTTPD: &str = "httpd -f -p 8080 -h /tmp";
const SLEEP: &str = "sleep 86399";

/// Pods of the node `node-2` by themselves.
fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": "node-2", "terminationGracePeriodSeconds": 0},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// Asks for the page, with a name from a ConfigMap in its environment.
fn client() -> Value {
    pod(
        "client",
        json!({
            "containers": [{
                "name": "main", "image": CURL,
                "command": ["sh", "-c", format!("echo $GREETING > /out/greeting; {ASK}")],
                "env": [{"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "words", "key": "greeting"}}}],
                "volumeMounts": [{"name": "out", "mountPath": "/out"}],
            }],
            "volumes": [{"name": "out", "hostPath": {"path": OUT, "type": "DirectoryOrCreate"}}],
        }),
    )
}

/// A pod that runs until SIGTERM.
fn doomed() -> Value {
    let command = json!(["sh", "-c", format!("exec {SLEEP}")]);
    pod(
        "doomed",
        json!({"containers": [{"name": "main", "image": PAGE, "command": command}]}),
    )
}

/// What the client wrote on the machine, once it has.
fn written(fleet: &Fleet, file: &str) -> Result<String> {
    let path = out(fleet, file);
    wait_for(&format!("the client's {file}"), || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        Ok(match text.trim() {
            "" => Err(fleet.logs()),
            text => Ok(text.to_owned()),
        })
    })
}

fn out(fleet: &Fleet, file: &str) -> PathBuf {
    fleet.nodes()[1].machine.file(&format!("{OUT}/{file}"))
}

/// Looks for the processes with this command line.
const FIND: &str = r#"for p in /proc/[0-9]*; do
  [ "$(tr '\0' ' ' < $p/cmdline)" = "$1 " ] && echo ${p#/proc/}
done 2> /dev/null; true"#;

/// The numbers of the machine's processes with this command line.
fn processes(fleet: &Fleet, command: &str) -> String {
    let found = fleet.nodes()[1].run(&["sh", "-c", FIND, "sh", command]);
    found.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Where an agent keeps what it was told.
const KEPT: &str = "/var/lib/everynode/kept/told";

/// What the agent of node-2 has kept.
fn kept(fleet: &Fleet) -> String {
    let path = fleet.nodes()[1].machine.file(KEPT);
    fs::read_to_string(path).unwrap_or_default()
}

/// The machine `node-2` without power for a moment, while the server is dead.
fn boot_alone(fleet: &mut Fleet) -> Result<()> {
    fleet.node(1).program.kill()?;
    fleet.node(2).machine.kill()?;
    for file in ["greeting", "answer"] {
        match fs::remove_file(out(fleet, file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let node = fleet.node(2);
    node.machine.boot()?;
    node.resume()
}

#[test]
fn a_machine_that_boots_without_a_server_does_its_whole_job_and_tells_of_it_later() -> Result<()> {
    let Some(mut fleet) = fleet(2, &[])? else {
        return Ok(());
    };
    let image = programs(
        fleet.topology().folder(),
        CURL,
        &["/usr/bin/curl".as_ref()],
        &["sh"],
    )?;
    fleet.import_on(2, &image)?;
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "page"},
        "spec": {"selector": {"app": "page"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }));
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {"greeting": "hello"},
    }));
    fleet.apply(&page(|set| {
        let main = &mut set["spec"]["template"]["spec"]["containers"][0];
        // It must not be stopped while it begins.
        main["livenessProbe"] = json!({
            "httpGet": {"path": "/", "port": 8080}, "initialDelaySeconds": 3, "periodSeconds": 1, "failureThreshold": 2,
        });
    }));
    fleet.apply(&client());
    fleet.apply(&doomed());
    let before = fleet.running("page", 2)?;
    fleet.running("client", 1)?;
    let doomed = fleet.running("doomed", 1)?["node-2"].uid.clone();
    assert_eq!(written(&fleet, "greeting")?, "hello");
    written(&fleet, "answer")?;
    // What was told is on the disk a moment later: both endpoints of the Service, too.
    eventually("the node to have kept its pods and both endpoints", || {
        let kept = kept(&fleet);
        let names = ["\"client\"", "\"doomed\"", "\"words\"", &before["node-2"].address];
        let newest_slice = kept
            .lines()
            .rfind(|line| line.contains(" endpointslices/default/page"));
        let both = newest_slice.is_some_and(|line| {
            before.values().all(|pod| line.contains(&pod.address)) && !line.contains("\"ready\":false")
        });
        Ok(both && names.iter().all(|name| kept.contains(name)))
    })?;

    // No server, and no power for a moment.
    boot_alone(&mut fleet)?;

    // Its pods run, with what they take from elsewhere; a name is answered, and the Service leads to a daemon.
    assert_eq!(written(&fleet, "greeting")?, "hello");
    let answer = written(&fleet, "answer")?;
    assert!(before.values().any(|pod| pod.name == answer), "{answer}");
    eventually("the pod that takes nothing to run", || {
        Ok(!processes(&fleet, SLEEP).is_empty())
    })?;

    // Its probes run: what fails is started again.
    eventually("the daemon to run", || Ok(!processes(&fleet, HTTPD).is_empty()))?;
    let first = processes(&fleet, HTTPD);
    let spoilt = format!("rm /proc/{first}/root/tmp/index.html");
    let done = fleet.node(2).run(&["sh", "-c", &spoilt]);
    assert!(done.success, "{}", done.stderr);
    eventually("the daemon to be started again", || {
        let now = processes(&fleet, HTTPD);
        Ok(!now.is_empty() && now != first)
    })?;
    let second = processes(&fleet, HTTPD);

    // The server comes back, and somebody deletes a pod before the node hears of it.
    fleet.node(2).machine.cut()?;
    fleet.node(1).resume()?;
    fleet.answering()?;
    fleet
        .client()
        .ok(&["delete", "pod", "doomed", "--force", "--grace-period=0"]);
    assert!(!processes(&fleet, SLEEP).is_empty(), "the node cannot know");
    fleet.node(2).machine.heal()?;
    eventually("the deleted pod to end", || {
        Ok(processes(&fleet, SLEEP).is_empty())
    })?;

    // The status has both restarts: one by the boot, one by the probe.
    let after = wait_for("the restarts to be told", || {
        let pods = fleet.running("page", 2)?;
        Ok(match pods["node-2"].restarts - before["node-2"].restarts {
            2 => Ok(pods),
            other => Err(other.to_string()),
        })
    })?;
    fleet.ready(2)?;
    assert_eq!(after["node-2"].uid, before["node-2"].uid);
    assert_eq!(identity(&after["node-1"]), identity(&before["node-1"]));
    // An address that others know is kept.
    assert_eq!(after["node-2"].address, before["node-2"].address);
    for _ in 0..LOOKS {
        let now = fleet.running("page", 2)?;
        assert_eq!(identity(&now["node-2"]), identity(&after["node-2"]));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(processes(&fleet, HTTPD), second, "nothing was restarted");
    report("booted without a server: pods, probes, names and Services work; told afterwards: 2 restarts");

    // What is gone is not kept: the last line that has its key says nothing.
    let key = format!(" pods/{doomed}");
    eventually("the deleted pod to be forgotten", || {
        let kept = kept(&fleet);
        Ok(kept
            .lines()
            .rfind(|line| line.contains(&key))
            .is_none_or(|line| line.ends_with(&key)))
    })?;
    Ok(())
}

/// Writes what a Secret says where the machine sees it.
fn secretive() -> Value {
    let greeting =
        json!({"name": "GREETING", "valueFrom": {"secretKeyRef": {"name": "words", "key": "greeting"}}});
    pod(
        "secretive",
        json!({
            "containers": [{
                "name": "main", "image": PAGE, "env": [greeting],
                "command": ["sh", "-c", format!("echo $GREETING > /out/greeting; exec {SLEEP}")],
                "volumeMounts": [{"name": "out", "mountPath": "/out"}],
            }],
            "volumes": [{"name": "out", "hostPath": {"path": OUT, "type": "DirectoryOrCreate"}}],
        }),
    )
}

#[test]
fn secrets_are_on_the_disk_of_the_machine_that_is_to_keep_them_and_go_with_its_node() -> Result<()> {
    let Some(mut fleet) = fleet(1, &[])? else {
        return Ok(());
    };
    fleet.join(&["--keep-secrets"])?;
    fleet.join(&[])?;
    fleet.ready(3)?;
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "words"}, "stringData": {"greeting": "hush"},
    }));
    fleet.apply(&secretive());
    let mut other = secretive();
    other["metadata"]["name"] = "other".into();
    other["spec"]["nodeName"] = "node-3".into();
    fleet.apply(&other);
    fleet.running("secretive", 2)?;
    assert_eq!(written(&fleet, "greeting")?, "hush");
    let kept_on = |fleet: &Fleet, number: usize| {
        let path = fleet.nodes()[number - 1].machine.file(KEPT);
        fs::read_to_string(path).unwrap_or_default()
    };
    eventually("both nodes to have kept the pod", || {
        let names = ["\"secretive\"", "\"other\""];
        let pods = (2..)
            .zip(names)
            .all(|(number, name)| kept_on(&fleet, number).contains(name));
        Ok(pods && kept_on(&fleet, 2).contains(" secrets/default/words {"))
    })?;
    assert!(!kept_on(&fleet, 3).contains(" secrets/"));

    boot_alone(&mut fleet)?;
    assert_eq!(written(&fleet, "greeting")?, "hush");

    // Its node is deleted before it hears of anything: the pod ends, and nothing is left that a next start could run.
    fleet.node(2).machine.cut()?;
    fleet.node(1).resume()?;
    fleet.answering()?;
    fleet.client().ok(&["delete", "node", "node-2"]);
    fleet.node(2).machine.heal()?;
    eventually("the agent to leave", || {
        Ok(fleet.node(2).program.ended()?.is_some())
    })?;
    assert_eq!(processes(&fleet, SLEEP), "");
    assert_eq!(kept(&fleet), "");
    Ok(())
}
