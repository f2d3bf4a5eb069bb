//! Attempts to reach pods and agents of other nodes.

use serde_json::Value;

use super::*;

pub(super) fn streams(table: &mut Table) {
    table.part = "Access to other nodes";
    table.get(
        "the log of another node's pod",
        format!("{TEAM}/pods/theirs/log"),
        403,
        CANNOT,
    );
    table.get(
        "a command in another node's pod",
        format!("{TEAM}/pods/theirs/exec?command=sh&stdout=1"),
        403,
        CANNOT,
    );
    table.row(
        "the same by POST",
        "POST",
        format!("{TEAM}/pods/theirs/exec?command=sh&stdout=1"),
        Value::Null,
        403,
        CANNOT,
    );
    table.get(
        "another node's pod through the proxy",
        format!("{TEAM}/pods/theirs/proxy/"),
        403,
        CANNOT,
    );
    table.get(
        "another node's agent through the proxy",
        "/api/v1/nodes/other/proxy/",
        403,
        CANNOT,
    );
    table.get(
        "another node's tunnel",
        "/everynode/v1/nodes/other/tunnel",
        403,
        CANNOT,
    );
    table.get(
        "its own tunnel, without an upgrade",
        "/everynode/v1/nodes/n/tunnel",
        400,
        "Upgrade: everynode-tunnel is required",
    );
}
