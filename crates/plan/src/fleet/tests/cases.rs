//! One pod on every node that should have one.

use serde_json::json;

use super::Cluster;

#[test]
fn every_node_gets_one_pod_and_the_status_says_so() {
    let cluster = Cluster::deployed(&["a", "b", "c"], json!({}));
    assert_eq!(cluster.picture(), "a: v1 ready, b: v1 ready, c: v1 ready");
    let status = &cluster.set("daemon").status;
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_ready
        ),
        (3, 3, 3)
    );
    assert_eq!((status.number_available, status.updated_number_scheduled), (3, 3));
    assert_eq!(
        (
            status.number_unavailable,
            status.number_misscheduled,
            status.observed_generation
        ),
        (0, 0, 1)
    );
}
