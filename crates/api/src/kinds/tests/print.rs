//! The columns of each kind. A `+` marks a column of `-o wide`.

use super::*;

fn columns(group: &str, kind: &str) -> Vec<String> {
    let row = by_kind(group, "v1", kind).unwrap_or_else(|| panic!("{kind} is not served"));
    let shown = row.columns.iter().map(|column| match column.priority {
        0 => column.name.to_owned(),
        _ => format!("+{}", column.name),
    });
    shown.collect()
}

#[test]
fn columns_are_those_of_kubernetes() {
    let cases: [(&str, &str, &[&str]); 11] = [
        (
            "apps",
            "DaemonSet",
            &[
                "Name",
                "Desired",
                "Current",
                "Ready",
                "Up-to-date",
                "Available",
                "Node Selector",
                "Age",
                "+Containers",
                "+Images",
                "+Selector",
            ],
        ),
        (
            "apps",
            "ControllerRevision",
            &["Name", "Controller", "Revision", "Age"],
        ),
        (
            "",
            "Pod",
            &[
                "Name",
                "Ready",
                "Status",
                "Restarts",
                "Age",
                "+IP",
                "+Node",
                "+Nominated Node",
                "+Readiness Gates",
            ],
        ),
        (
            "",
            "Node",
            &[
                "Name",
                "Status",
                "Roles",
                "Age",
                "Version",
                "+Internal-IP",
                "+External-IP",
                "+OS-Image",
                "+Kernel-Version",
                "+Container-Runtime",
            ],
        ),
        (
            "",
            "Service",
            &[
                "Name",
                "Type",
                "Cluster-IP",
                "External-IP",
                "Port(s)",
                "Age",
                "+Selector",
            ],
        ),
        ("", "Endpoints", &["Name", "Endpoints", "Age"]),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            &["Name", "AddressType", "Ports", "Endpoints", "Age"],
        ),
        (
            "",
            "Event",
            &[
                "Last Seen",
                "Type",
                "Reason",
                "Object",
                "+Subobject",
                "+Source",
                "Message",
                "+First Seen",
                "+Count",
                "+Name",
            ],
        ),
        ("", "Namespace", &["Name", "Status", "Age"]),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            &["Name", "Value", "Global-Default", "Age", "PreemptionPolicy"],
        ),
        (
            "policy",
            "PodDisruptionBudget",
            &[
                "Name",
                "Min Available",
                "Max Unavailable",
                "Allowed Disruptions",
                "Age",
            ],
        ),
    ];
    for (group, kind, expected) in cases {
        assert_eq!(columns(group, kind), expected, "{kind}");
    }
}

#[test]
fn counts_are_numbers_and_other_cells_are_text() {
    let daemon_set = by_kind("apps", "v1", "DaemonSet").expect("a served kind");
    let numbers: Vec<&str> = daemon_set
        .columns
        .iter()
        .filter(|column| column.ty == "integer")
        .map(|column| column.name)
        .collect();
    assert_eq!(
        numbers,
        ["Desired", "Current", "Ready", "Up-to-date", "Available"]
    );
    assert_eq!(
        daemon_set.row(&json!({}), now())[1..7],
        [json!(0), json!(0), json!(0), json!(0), json!(0), json!("<none>")]
    );
}

#[test]
fn daemon_set_prints_containers_images_and_sorted_selectors() {
    let object = json!({"metadata": {"name": "a"}, "spec": {
        "selector": {"matchLabels": {"b": "1", "a": "2"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["x", "y"]}]},
        "template": {"spec": {"nodeSelector": {"z": "1", "disk": "ssd"},
            "containers": [{"name": "one", "image": "i:1"}, {"name": "two", "image": "j:2"}]}}}});
    let daemon_set = by_kind("apps", "v1", "DaemonSet").expect("a served kind");
    assert_eq!(
        cells(daemon_set, object)[6..],
        [
            "disk=ssd,z=1",
            "<unknown>",
            "one,two",
            "i:1,j:2",
            "a=2,b=1,c in (x,y)"
        ]
    );
}
