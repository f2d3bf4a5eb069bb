//! Attempts to get tokens of service accounts.

use super::*;

pub(super) fn tokens(table: &mut Table, world: &World) {
    table.part = "Tokens of service accounts";
    let path = |account: &str| format!("{TEAM}/serviceaccounts/{account}/token");
    let (mine, theirs) = (world.mine.as_str(), world.theirs.as_str());
    table.row(
        "a token for its pod, bound to the pod",
        "POST",
        path("daemon"),
        token_request("mine", mine, ""),
        201,
        "",
    );
    table.row(
        "a token bound to no object",
        "POST",
        path("daemon"),
        token_request("", "", ""),
        403,
        "node requested token not bound to a pod",
    );
    table.row(
        "a token bound to a pod without a uid",
        "POST",
        path("daemon"),
        token_request("mine", "", ""),
        403,
        "node requested token with a pod binding without a uid",
    );
    table.row(
        "a token bound to another node's pod",
        "POST",
        path("daemon"),
        token_request("theirs", theirs, ""),
        403,
        "node requested token bound to a pod scheduled on a different node",
    );
    table.row(
        "a token for an audience that the pod does not name",
        "POST",
        path("daemon"),
        token_request("mine", mine, "vault"),
        403,
        "audience \"vault\" not found in pod spec volume",
    );
    table.row(
        "a token of an administrator's account, bound to its own pod",
        "POST",
        path("powerful"),
        token_request("mine", mine, ""),
        403,
        STRANGER,
    );
    table.row(
        "a token of an account in kube-system",
        "POST",
        "/api/v1/namespaces/kube-system/serviceaccounts/default/token",
        token_request("", "", ""),
        403,
        STRANGER,
    );
    table.row(
        "a new ServiceAccount",
        "POST",
        format!("{TEAM}/serviceaccounts"),
        named("ServiceAccount", "new"),
        403,
        CANNOT,
    );
}
