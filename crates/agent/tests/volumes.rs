//! Volumes of pods: order and modes of mounts, what outlives a sandbox, what a pod may take of the disk, last words.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use common::{Cluster, shell};

const FOREVER: &str = "trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.1; done";

fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn ended<'a>(pod: &'a Value, container: &str) -> &'a Value {
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    let status = statuses.iter().find(|status| status["name"] == container);
    &status.unwrap()["state"]["terminated"]
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_nest_in_any_order_and_sub_paths_take_the_mode() {
    let cluster = Cluster::start().await;
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"key": "value"}});
    cluster.object("/api/v1/namespaces/default/configmaps", map).await;
    let script = "alias b=/bin/busybox; cd /whole
        b stat -c '%a %n' /buffer /whole /config/made; b cat /etc/agent/info /config/key; echo
        echo x > /buffer/file && echo written; pwd";
    let mut container = shell(&format!("shopt -s expand_aliases 2>/dev/null; {script}"));
    container["volumeMounts"] = json!([
        {"name": "config", "mountPath": "/etc/agent/info", "subPath": "key"},
        {"name": "scratch", "mountPath": "/etc/agent"},
        {"name": "scratch", "mountPath": "/config/made", "subPath": "a/b"},
        {"name": "config", "mountPath": "/config"},
        {"name": "scratch", "mountPath": "/buffer", "subPath": "buffer"},
        {"name": "scratch", "mountPath": "/whole"},
    ]);
    container["workingDir"] = "/whole/work".into();
    let spec = json!({
        "containers": [container],
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
        "volumes": [{"name": "config", "configMap": {"name": "m"}}, {"name": "scratch", "emptyDir": {}}],
    });
    cluster.create("nest", spec).await;
    cluster.until("nest", "it ends", has_ended).await;
    let log = cluster.log("nest").await;
    assert_eq!(
        log,
        "777 /buffer\n777 /whole\n777 /config/made\nvaluevalue\nwritten\n/whole\n"
    );
    // The container's user comes by the mounts alone; users of the machine come to none of it.
    let pods = fs::metadata(cluster.options.data_dir.join("kubelet")).unwrap();
    assert_eq!(pods.permissions().mode() & 0o7777, 0o700);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_read_by_the_pods_user_or_group_alone() {
    let cluster = Cluster::start().await;
    let script = "/bin/busybox stat -L -c '%a %u %g' /var/run/secrets/kubernetes.io/serviceaccount/token;
        /bin/busybox test -r /var/run/secrets/kubernetes.io/serviceaccount/token && echo readable";
    let cases = [
        ("plain", json!({}), "644 0 0\nreadable\n"),
        ("user", json!({"runAsUser": 1000}), "600 1000 0\nreadable\n"),
        ("group", json!({"fsGroup": 2000}), "640 0 2000\nreadable\n"),
        (
            "both",
            json!({"runAsUser": 1000, "fsGroup": 2000}),
            "640 1000 2000\nreadable\n",
        ),
    ];
    for (name, context, _) in &cases {
        let spec =
            json!({"containers": [shell(script)], "restartPolicy": "Never", "securityContext": context});
        cluster.create(name, spec).await;
    }
    for (name, _, expected) in cases {
        cluster.until(name, "it ends", has_ended).await;
        assert_eq!(cluster.log(name).await, expected, "{name}");
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_words_are_bounded_whatever_a_container_writes() {
    let cluster = Cluster::start().await;
    let container = |name: &str, script: &str, policy: &str| {
        let mut container = shell(script);
        container["name"] = name.into();
        container["terminationMessagePolicy"] = policy.into();
        container
    };
    let long = "/bin/busybox head -c 9000 /dev/zero | /bin/busybox tr '\\0' x > /dev/termination-log; echo end >> /dev/termination-log";
    let sparse = "/bin/busybox truncate -s 1099511627776 /dev/termination-log; exit 3";
    let lines = "for i in $(/bin/busybox seq 1 200); do echo line $i; done; exit 3";
    let spec = |containers: Value| json!({"containers": containers, "restartPolicy": "Never"});
    let some = [
        container("long", long, "File"),
        container("log", lines, "FallbackToLogsOnError"),
    ];
    cluster.create("some", spec(json!(some))).await;
    // Six containers share what a pod's status may hold.
    let many: Vec<Value> = (0..5)
        .map(|number| container(&format!("c{number}"), long, "File"))
        .collect();
    let many = [many, vec![container("sparse", sparse, "File")]].concat();
    cluster.create("many", spec(json!(many))).await;
    let pod = cluster.until("some", "it ends", has_ended).await;
    let words = ended(&pod, "long")["message"].as_str().unwrap();
    assert_eq!((words.len(), words.ends_with("xend\n")), (4096, true));
    let words = ended(&pod, "log")["message"].as_str().unwrap();
    let lines: Vec<&str> = words.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[79]), (80, "line 121", "line 200"));
    let pod = cluster.until("many", "it ends", has_ended).await;
    for name in ["c0", "c4", "sparse"] {
        assert_eq!(
            ended(&pod, name)["message"].as_str().unwrap().len(),
            2048,
            "{name}"
        );
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_dir_outlives_its_pods_sandbox() {
    let cluster = Cluster::start().await;
    let script = |name: &str, then: &str| {
        let mut container = shell(&format!("echo {name} >> /log/order; {then}"));
        container["name"] = name.into();
        container["volumeMounts"] =
            json!([{"name": "log", "mountPath": "/log"}, {"name": "memory", "mountPath": "/memory"}]);
        container
    };
    let spec = json!({
        "initContainers": [script("first", "echo kept > /memory/kept"), script("second", "")],
        "containers": [script("main", FOREVER)],
        "volumes": [{"name": "log", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}],
        "terminationGracePeriodSeconds": 1,
    });
    let pod = cluster.create("inits", spec).await;
    cluster.until_ready("inits").await;
    let uid = pod.metadata.uid.unwrap();
    let folder = cluster
        .options
        .data_dir
        .join("kubelet")
        .join(&uid)
        .join("volumes");
    let order = || fs::read_to_string(folder.join("log/order")).unwrap_or_default();
    // A container that was started may not have written yet.
    let until_order = async |what: &str, expected: &str| {
        let look = async || match order() {
            order if order == expected => Ok(()),
            other => Err(other),
        };
        testkit::wait_for_async(what, look).await.unwrap();
    };
    until_order("the pod runs", "first\nsecond\nmain\n").await;
    kill(shim(&uid), Signal::SIGKILL).unwrap();
    until_order(
        "the pod begins anew",
        "first\nsecond\nmain\nfirst\nsecond\nmain\n",
    )
    .await;
    assert_eq!(fs::read_to_string(folder.join("memory/kept")).unwrap(), "kept\n");
    cluster.delete("inits").await;
    cluster.until_gone("inits").await;
    assert!(!folder.exists());
    cluster.finish().await;
}

/// The process that keeps a pod.
fn shim(uid: &str) -> Pid {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let of_pod = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .trim_end_matches('\0')
            .ends_with(uid)
    };
    Pid::from_raw(numbers.find(of_pod).expect("a shim"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_takes_too_much_of_the_disk_is_evicted() {
    let cluster = Cluster::start().await;
    let container = |path: &str| {
        let fill = format!("/bin/busybox dd if=/dev/zero of={path} bs=1M count=3 2>/dev/null; {FOREVER}");
        shell(&fill)
    };
    let mut volume = container("/disk/f");
    volume["volumeMounts"] =
        json!([{"name": "disk", "mountPath": "/disk"}, {"name": "free", "mountPath": "/free"}]);
    let volumes =
        json!([{"name": "disk", "emptyDir": {"sizeLimit": "2Mi"}}, {"name": "free", "emptyDir": {}}]);
    cluster
        .create("volume", json!({"containers": [volume], "volumes": volumes}))
        .await;
    let limit = json!({"limits": {"ephemeral-storage": "2Mi"}});
    let mut layer = container("/f");
    layer["resources"] = limit.clone();
    cluster.create("layer", json!({"containers": [layer]})).await;
    let mut whole = container("/free/f");
    whole["resources"] = limit;
    whole["volumeMounts"] = json!([{"name": "free", "mountPath": "/free"}]);
    let free = json!([{"name": "free", "emptyDir": {}}]);
    cluster
        .create("whole", json!({"containers": [whole], "volumes": free}))
        .await;
    let expected = [
        (
            "volume",
            "Usage of EmptyDir volume \"disk\" exceeds the limit \"2Mi\". ",
        ),
        (
            "layer",
            "Container c exceeded its local ephemeral storage limit \"2Mi\". ",
        ),
        (
            "whole",
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ",
        ),
    ];
    for (name, message) in expected {
        let pod = cluster.until(name, "it is evicted", has_ended).await;
        let status = &pod["status"];
        assert_eq!(
            (&status["phase"], &status["reason"]),
            (&json!("Failed"), &json!("Evicted"))
        );
        assert_eq!(status["message"], message);
        cluster.until_event(name, &format!("Evicted: {message}")).await;
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pod_mounts_in_its_volume_goes_with_it() {
    let cluster = Cluster::start().await;
    let script = format!(
        "set -e; mount() {{ /bin/busybox mkdir -p $1; /bin/busybox mount -t tmpfs t $1; }}
        mount /v/plain; mount /v/covered/below; mount /v/covered; mount /v/covered; mount /v/covered/inner
        mount \"/v/$(printf 'no \\377 text')\"; mount /v; mount /v/last; {FOREVER}"
    );
    let mut container = shell(&script);
    container["securityContext"] = json!({"privileged": true});
    container["volumeMounts"] =
        json!([{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]);
    let spec = json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]});
    let folder = cluster.options.data_dir.join("kubelet");
    let mounted = || {
        let mounts = fs::read("/proc/self/mountinfo").unwrap();
        let mounts = String::from_utf8_lossy(&mounts).into_owned();
        mounts.matches(folder.to_str().unwrap()).count()
    };
    let before = mounted();
    cluster.create("mounts", spec).await;
    testkit::wait_for_async("it has mounted", async || match mounted() - before {
        8.. => Ok(()),
        count => Err(format!("{count} mounts")),
    })
    .await
    .unwrap();
    cluster.delete("mounts").await;
    cluster.until_gone("mounts").await;
    testkit::wait_for_async("nothing is left", async || match mounted() == before {
        true => Ok(()),
        false => Err(format!("{} mounts", mounted())),
    })
    .await
    .unwrap();
    cluster.finish().await;
}
