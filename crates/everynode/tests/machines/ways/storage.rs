//! Storage daemons that keep copies on their nodes' own disks.

use anyhow::Result;
use serde_json::json;
use testkit::wait_for;

use super::{daemon, package};
use crate::fleet;

const GLUSTERD: &str = "docker.io/gluster/glusterd:10.3";

#[test]
fn glusterd_on_two_nodes_keeps_a_replicated_volume() -> Result<()> {
    let Some(package) = package("glusterfs-server") else {
        return Ok(());
    };
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    let image = package.image(fleet.topology().folder(), GLUSTERD, &["sh"], &[])?;
    fleet.import(&image)?;
    for node in ["node-2", "node-3"] {
        fleet.client().ok(&["label", "node", node, "storage=glusterfs"]);
    }
    // Replication to far places wants Python; without its helper, glusterd does without it.
    let script = "rm -f /usr/lib/*/glusterfs/gsyncd; mkdir -p /var/log/glusterfs /run/gluster; \
                  exec /usr/sbin/glusterd -N -l /var/log/glusterfs/glusterd.log";
    fleet.apply(&daemon("glusterd", GLUSTERD, &["sh", "-c", script], |spec| {
        spec["nodeSelector"] = json!({"storage": "glusterfs"});
        spec["hostNetwork"] = true.into();
        let main = &mut spec["containers"][0];
        main["securityContext"] = json!({"privileged": true});
        main["readinessProbe"] = json!({"tcpSocket": {"port": 24007}, "periodSeconds": 1});
        main["volumeMounts"] = json!([
            {"name": "brick", "mountPath": "/brick"}, {"name": "state", "mountPath": "/var/lib/glusterd"},
        ]);
        spec["volumes"] = json!([
            {"name": "brick", "hostPath": {"path": "/var/lib/brick", "type": "DirectoryOrCreate"}},
            {"name": "state", "hostPath": {"path": "/var/lib/glusterd", "type": "DirectoryOrCreate"}},
        ]);
    }));
    let pods = fleet.running("glusterd", 2)?;
    let client = fleet.client();
    let gluster = |script: &str| client.run(&["exec", &pods["node-2"].name, "--", "sh", "-c", script]);
    let (first, second) = (fleet.node(2).machine.address(), fleet.node(3).machine.address());
    let probed = gluster(&format!("gluster peer probe {second}"));
    assert!(probed.success, "{}{}", probed.stdout, probed.stderr);
    wait_for("the two to be peers", || {
        let peers = gluster("gluster peer status").stdout;
        Ok(if peers.contains("Peer in Cluster (Connected)") {
            Ok(())
        } else {
            Err(peers)
        })
    })?;
    let made = gluster(&format!(
        "gluster --mode=script volume create files replica 2 {first}:/brick/files {second}:/brick/files force \
         && gluster --mode=script volume start files"
    ));
    assert!(made.success, "{}{}", made.stdout, made.stderr);
    let written = wait_for("the volume to be mounted and written", || {
        let done = gluster(&format!(
            "mkdir -p /mnt && (grep -q ' /mnt ' /proc/mounts || glusterfs -s {first} --volfile-id=files /mnt) && echo kept > /mnt/file && cat /mnt/file"
        ));
        Ok(if done.success {
            Ok(done.stdout)
        } else {
            Err(format!("{}{}", done.stdout, done.stderr))
        })
    })?;
    assert_eq!(written, "kept\n");
    // Each node's own disk has it.
    for node in &fleet.nodes()[1..] {
        let copy = node.machine.file("/var/lib/brick/files/file");
        wait_for("the copy of the file", || {
            Ok(std::fs::read_to_string(&copy).map_err(|error| error.to_string()))
        })?;
        assert_eq!(
            std::fs::read_to_string(&copy)?,
            "kept\n",
            "{}",
            node.machine.name()
        );
    }
    Ok(())
}
