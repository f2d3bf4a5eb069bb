//! Pods with real containers on one node, from creation to the end.

mod common;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{AttachParams, LogParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use common::{Cluster, IMAGE, NODE, condition, shell};

const FOREVER: &str = "trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.1; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_and_its_logs_and_commands_are_reached_over_the_tunnel() {
    let cluster = Cluster::start().await;
    let script = format!("echo started as $POD with $(/bin/busybox cat /etc/config/key); {FOREVER}");
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"key": "value"}});
    cluster.object("/api/v1/namespaces/default/configmaps", map).await;
    let mut container = shell(&script);
    container["env"] = json!([
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD", "value": "$(NAME)!"},
    ]);
    container["volumeMounts"] = json!([{"name": "config", "mountPath": "/etc/config"}]);
    let volumes = json!([{"name": "config", "configMap": {"name": "m"}}]);
    cluster
        .create("web", json!({"containers": [container], "volumes": volumes}))
        .await;
    let pod = cluster.until_ready("web").await;
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    assert!(pod["status"]["podIP"].as_str().unwrap().starts_with("10.199."));

    cluster.until_event("web", "Started").await;
    let log = cluster
        .until_log("web", &LogParams::default(), |log| !log.is_empty())
        .await;
    assert_eq!(log, "started as web! with value\n");

    let script = "/bin/busybox cat; echo oops >&2; exit 7";
    let mut process = cluster
        .exec("web", script, &AttachParams::default().stdin(true))
        .await;
    let mut stdin = process.stdin().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"to the command")
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut stdin).await.unwrap();
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    let status = process.take_status().unwrap();
    process.stdout().unwrap().read_to_string(&mut out).await.unwrap();
    process.stderr().unwrap().read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("to the command", "oops\n"));
    let status = status.await.expect("a status");
    let causes = status
        .details
        .and_then(|details| details.causes)
        .unwrap_or_default();
    assert_eq!(causes[0].message.as_deref(), Some("7"));
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_parameters_and_processes_within_its_bounds() {
    let cluster = Cluster::start().await;
    let swappiness = || std::fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
    let before = swappiness();
    let asking = |name: &str, value: &str| json!([{"name": name, "value": value}]);
    let spec = |sysctls: Value| {
        let script = format!("/bin/busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start; {FOREVER}");
        json!({"containers": [shell(&script)], "securityContext": {"sysctls": sysctls}})
    };
    cluster.create("bad", spec(asking("vm.swappiness", "61"))).await;
    let pod = cluster
        .until("bad", "fail", |pod| pod["status"]["phase"] == "Failed")
        .await;
    assert_eq!(pod["status"]["reason"], "SysctlForbidden");
    assert_eq!(
        pod["status"]["message"],
        "Pod was rejected: forbidden sysctl: \"vm.swappiness\" not allowlisted"
    );
    cluster
        .create("good", spec(asking("net.ipv4.ip_unprivileged_port_start", "77")))
        .await;
    let pod = cluster.until_ready("good").await;
    let log = cluster
        .until_log("good", &LogParams::default(), |log| !log.is_empty())
        .await;
    assert_eq!((log.as_str(), swappiness()), ("77\n", before));
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let limits = pids_limits(&format!("/kubepods/besteffort/pod{uid}"));
    assert_eq!(limits, [agent::POD_MAX_PIDS.to_string()]);
    cluster.finish().await;
}

/// The limits of processes of the cgroups whose path ends so, in whichever hierarchy has them.
fn pids_limits(end: &str) -> Vec<String> {
    let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(std::fs::read_dir);
    let folders = roots.into_iter().flatten().flatten().flatten();
    folders
        .map(|instance| format!("{}{end}/pids.max", instance.path().display()))
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .map(|limit| limit.trim().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_registers_with_what_it_has() {
    let cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.admin.clone());
    let look = async || {
        let node = nodes.get_opt(NODE).await.unwrap();
        node.ok_or_else(|| "no node".to_owned())
    };
    let node = testkit::wait_for_async("the node to register", look)
        .await
        .unwrap();
    let node = serde_json::to_value(node).unwrap();
    let labels = &node["metadata"]["labels"];
    assert_eq!(labels["kubernetes.io/hostname"], NODE);
    assert_eq!(labels["kubernetes.io/os"], "linux");
    // Named as Go names them.
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    assert_eq!(labels["kubernetes.io/arch"], arch);
    assert_eq!(node["status"]["allocatable"]["pods"], "110");
    let ready = condition(&node, "Ready");
    assert_eq!(ready, "True");
    assert_eq!(
        node["status"]["nodeInfo"]["kubeletVersion"],
        agent::KUBELET_VERSION
    );
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_given_up_says_that_it_is_there() {
    let cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.admin.clone());
    let until_ready = async || {
        let look = async || {
            let node = nodes.get_opt(NODE).await.unwrap();
            let node = serde_json::to_value(node).unwrap();
            match condition(&node, "Ready") {
                ready if ready == "True" => Ok(()),
                other => Err(other.to_string()),
            }
        };
        testkit::wait_for_async("the node to be Ready", look)
            .await
            .unwrap();
    };
    until_ready().await;
    let lost = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}});
    let patched = nodes
        .patch_status(NODE, &PatchParams::default(), &Patch::Strategic(lost))
        .await;
    patched.unwrap();
    until_ready().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashing_container_is_restarted_with_a_growing_wait() {
    let cluster = Cluster::start().await;
    cluster
        .create("crash", json!({"containers": [shell("echo going down; exit 3")]}))
        .await;
    let pod = cluster
        .until("crash", "it waits in CrashLoopBackOff", |pod| {
            let status = &pod["status"]["containerStatuses"][0];
            status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 1);
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(status["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(condition(&pod, "Ready"), "False");
    cluster
        .until_event(
            "crash",
            "BackOff: Back-off restarting failed container c in pod crash_default",
        )
        .await;
    let previous = LogParams {
        previous: true,
        ..Default::default()
    };
    let log = cluster.until_log("crash", &previous, |log| !log.is_empty()).await;
    assert_eq!(log, "going down\n");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_lie_where_collectors_look_until_the_pod_goes() {
    let cluster = Cluster::start().await;
    let logs = cluster.options.pod_logs_dir.clone();
    let links = logs.with_file_name("containers");
    // As a pod can that mounts /var/log: a link in the place of a log leads nowhere.
    let secret = cluster.options.data_dir.join("secret");
    std::fs::write(&secret, "2026-01-01T00:00:00Z stdout F secret\n").unwrap();
    let container = shell(&format!("echo to the collector; {FOREVER}"));
    let pod = cluster.create("talk", json!({"containers": [container]})).await;
    let uid = pod.metadata.uid.unwrap();
    let pod = cluster.until_ready("talk").await;
    let id = pod["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap();
    let id = id.strip_prefix("everynode://").unwrap();
    assert!(
        id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    let log = logs.join(format!("default_talk_{uid}/c/0.log"));
    let link = links.join(format!("talk_default_c-{id}.log"));
    cluster
        .until_log("talk", &LogParams::default(), |log| !log.is_empty())
        .await;
    for path in [&log, &link] {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.ends_with(" stdout F to the collector\n"), "{text}");
    }
    assert_eq!(std::fs::read_link(&link).unwrap(), log);
    std::fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink(&secret, &log).unwrap();
    let read = cluster.pods().logs("talk", &LogParams::default()).await;
    assert!(!read.is_ok_and(|text| text.contains("secret")));
    cluster.delete("talk").await;
    cluster.until_gone("talk").await;
    for folder in [&logs, &links] {
        let left: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(secret.exists());
    let kubelet = cluster.options.kubelet_dir.clone();
    assert!(kubelet.join("plugins_registry").is_dir());
    let options = cluster.options.clone();
    agent::remove_shared_folders(&options).unwrap();
    assert!(!logs.exists() && !links.exists() && !kubelet.exists());
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_says_what_to_do() {
    let cluster = Cluster::start().await;
    let container = json!({"name": "c", "image": "127.0.0.1:1/none:1"});
    cluster.create("none", json!({ "containers": [container] })).await;
    let reason = |pod: &Value, reason: &str| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        let message = waiting["message"].as_str().unwrap_or_default();
        waiting["reason"] == reason && message.contains("everynode image import FILE")
    };
    cluster
        .until("none", "ErrImagePull", |pod| reason(pod, "ErrImagePull"))
        .await;
    cluster
        .until("none", "ImagePullBackOff", |pod| reason(pod, "ImagePullBackOff"))
        .await;
    cluster.delete("none").await;
    cluster.until_gone("none").await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_decide_readiness_and_restart() {
    let cluster = Cluster::start().await;
    let gate = tempfile::tempdir().unwrap();
    let gated = |mut container: Value, probe: &str, file: &str| {
        let command = json!(["/bin/busybox", "test", "-e", format!("/gate/{file}")]);
        container[probe] = json!({"exec": {"command": command}, "periodSeconds": 1, "failureThreshold": 1});
        container["volumeMounts"] = json!([{"name": "gate", "mountPath": "/gate"}]);
        let volumes = json!([{"name": "gate", "hostPath": {"path": gate.path()}}]);
        json!({"containers": [container], "volumes": volumes})
    };
    let ready = gated(shell(FOREVER), "readinessProbe", "ready");
    cluster.create("ready", ready).await;
    let pod = cluster
        .until("ready", "it runs", |pod| pod["status"]["phase"] == "Running")
        .await;
    assert_eq!(condition(&pod, "Ready"), "False");
    std::fs::write(gate.path().join("ready"), "").unwrap();
    cluster.until_ready("ready").await;

    std::fs::write(gate.path().join("live"), "").unwrap();
    let live = gated(shell(FOREVER), "livenessProbe", "live");
    cluster.create("live", live).await;
    cluster.until_ready("live").await;
    std::fs::remove_file(gate.path().join("live")).unwrap();
    cluster
        .until("live", "it is restarted", |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
        })
        .await;
    cluster
        .until_event("live", "Unhealthy: Liveness probe failed")
        .await;
    cluster
        .until_event(
            "live",
            "Killing: Container c failed liveness probe, will be restarted",
        )
        .await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_ends_within_its_grace_and_leaves_nothing() {
    let mut cluster = Cluster::start().await;
    // The kernel drops a SIGTERM that comes before the shell has its trap.
    let mut container = shell("trap 'exit 0' TERM; echo trapped; while :; do /bin/busybox sleep 0.1; done");
    container["lifecycle"] = json!({"preStop": {"exec": {"command": ["/bin/busybox", "true"]}}});
    let memory = json!([{"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]);
    container["volumeMounts"] = json!([{"name": "m", "mountPath": "/m"}]);
    // Longer than anybody waits here: that it is gone before shows that SIGTERM was enough.
    let spec = json!({"containers": [container], "volumes": memory, "terminationGracePeriodSeconds": 3600});
    let created = cluster.create("end", spec).await;
    cluster
        .until_log("end", &LogParams::default(), |log| log == "trapped\n")
        .await;
    cluster.delete("end").await;
    cluster.until_gone("end").await;
    let uid = created.metadata.uid.unwrap();
    cluster.stop_agent().await;
    assert!(cluster.runtime().pod(&uid).is_none());
    assert!(!cluster.options.data_dir.join("kubelet").join(&uid).exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&uid));
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_the_agent_and_the_next_one_adopts_them() {
    let mut cluster = Cluster::start().await;
    let stay = cluster
        .create("stay", json!({"containers": [shell(FOREVER)]}))
        .await;
    cluster
        .create(
            "go",
            json!({"containers": [shell(FOREVER)], "terminationGracePeriodSeconds": 1}),
        )
        .await;
    let before = cluster.until_ready("stay").await;
    cluster.until_ready("go").await;
    cluster.stop_agent().await;
    let uid = stay.metadata.uid.unwrap();
    let state = |cluster: &Cluster| {
        let runtime = cluster.runtime();
        let containers = runtime.pod(&uid).expect("the pod").containers().unwrap();
        format!("{:?}", containers[0].state)
    };
    let first = state(&cluster);
    assert!(first.starts_with("Running"), "{first}");
    cluster.delete("go").await;
    cluster.start_agent();
    cluster.until_gone("go").await;
    let after = cluster.until_ready("stay").await;
    assert_eq!(
        before["status"]["containerStatuses"],
        after["status"]["containerStatuses"]
    );
    assert_eq!(before["status"]["conditions"], after["status"]["conditions"]);
    cluster.stop_agent().await;
    assert_eq!(state(&cluster), first);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_prepare_what_the_container_finds_and_a_job_succeeds() {
    let mut cluster = Cluster::start().await;
    let mounts = json!([{"name": "shared", "mountPath": "/shared"}]);
    let mut init = shell("echo prepared > /shared/file");
    init["name"] = "init".into();
    init["volumeMounts"] = mounts.clone();
    let mut container = shell("/bin/busybox cat /shared/file");
    container["volumeMounts"] = mounts;
    let volumes = json!([{"name": "shared", "emptyDir": {}}]);
    let spec = json!({"initContainers": [init], "containers": [container], "volumes": volumes, "restartPolicy": "Never"});
    cluster.create("job", spec).await;
    let pod = cluster
        .until("job", "it succeeds", |pod| pod["status"]["phase"] == "Succeeded")
        .await;
    assert_eq!(
        pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"],
        0
    );
    assert_eq!(cluster.log("job").await, "prepared\n");
    cluster.until_event("job", "Started container c").await;
    cluster.stop_agent().await;
    cluster.start_agent();
    // The next pod is served after the first list, so by then the old one has been looked at.
    cluster
        .create(
            "next",
            json!({"containers": [shell(FOREVER)], "terminationGracePeriodSeconds": 1}),
        )
        .await;
    cluster.until_ready("next").await;
    let after = cluster.until("job", "it is there", |pod| !pod.is_null()).await;
    assert_eq!(
        pod["status"]["containerStatuses"],
        after["status"]["containerStatuses"]
    );
    assert_eq!(cluster.log("job").await, "prepared\n");
    cluster.delete("job").await;
    cluster.until_gone("job").await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_its_config_map_and_a_second_taker_of_a_port_is_refused() {
    let cluster = Cluster::start().await;
    let mut container = shell(FOREVER);
    container["envFrom"] = json!([{"configMapRef": {"name": "late"}}]);
    cluster.create("env", json!({ "containers": [container] })).await;
    cluster
        .until("env", "it says what is missing", |pod| {
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            waiting["reason"] == "CreateContainerConfigError"
                && waiting["message"] == "configmap \"late\" not found"
        })
        .await;
    let mut container = shell(FOREVER);
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let volumes = json!([{"name": "v", "configMap": {"name": "late"}}]);
    cluster
        .create("volume", json!({"containers": [container], "volumes": volumes}))
        .await;
    cluster
        .until_event(
            "volume",
            "MountVolume.SetUp failed for volume \"v\" : configmap \"late\" not found",
        )
        .await;
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}, "data": {"A": "1"}});
    cluster.object("/api/v1/namespaces/default/configmaps", map).await;
    cluster.until_ready("env").await;
    cluster.until_ready("volume").await;

    let mut container = shell(FOREVER);
    container["ports"] = json!([{"containerPort": 80, "hostPort": 47123}]);
    let spec = json!({ "containers": [container] });
    cluster.create("first", spec.clone()).await;
    cluster.until_ready("first").await;
    cluster.create("second", spec).await;
    let refused = cluster
        .until("second", "it is refused", |pod| {
            pod["status"]["phase"] == "Failed"
        })
        .await;
    assert_eq!(refused["status"]["reason"], "NodePorts");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_takes_too_much_memory_is_oom_killed() {
    let cluster = Cluster::start().await;
    let container = json!({
        "name": "c", "image": IMAGE,
        "command": ["/bin/busybox", "tail", "/dev/zero"],
        "resources": {"limits": {"memory": "16Mi"}},
    });
    cluster
        .create(
            "greedy",
            json!({"containers": [container], "restartPolicy": "Never"}),
        )
        .await;
    let pod = cluster
        .until("greedy", "it fails", |pod| pod["status"]["phase"] == "Failed")
        .await;
    let end = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&end["reason"], &end["exitCode"]),
        (&json!("OOMKilled"), &json!(137))
    );
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_does_not_wait_for_a_post_start_hook() {
    let cluster = Cluster::start().await;
    let mut container = shell("while :; do /bin/busybox sleep 0.1; done");
    container["lifecycle"] = json!({"postStart": {"exec": {"command": ["/bin/busybox", "sleep", "1000"]}}});
    let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 1});
    cluster.create("hooked", spec).await;
    cluster
        .until_event("hooked", "Started: Started container c")
        .await;
    cluster.delete("hooked").await;
    cluster.until_gone("hooked").await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_never_started_are_counted_on_by_the_next_agent() {
    let mut cluster = Cluster::start().await;
    let container = json!({"name": "c", "image": common::IMAGE, "command": ["/no/such/program"]});
    cluster.create("never", json!({"containers": [container]})).await;
    let count = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    cluster
        .until("never", "it was tried again", |pod| count(pod) >= Some(1))
        .await;
    cluster.stop_agent().await;
    let before = cluster.until("never", "it is there", |pod| !pod.is_null()).await;
    cluster.start_agent();
    let after = cluster
        .until("never", "it is tried once more", |pod| {
            count(pod) != count(&before)
        })
        .await;
    assert!(count(&after) > count(&before), "{:#}", after["status"]);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_node_runs_pre_stop_hooks() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut container = shell("trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.1; done");
    let touch = json!(["/bin/busybox", "touch", "/out/hooked"]);
    container["lifecycle"] = json!({"preStop": {"exec": {"command": touch}}});
    container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    let volumes = json!([{"name": "out", "hostPath": {"path": folder.path()}}]);
    cluster
        .create("last", json!({"containers": [container], "volumes": volumes}))
        .await;
    cluster.until_ready("last").await;
    cluster.finish().await;
    assert!(folder.path().join("hooked").exists());
}
