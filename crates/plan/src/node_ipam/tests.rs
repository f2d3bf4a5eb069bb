use std::collections::BTreeMap;

use api::view::NodeConditionView;
use proptest::prelude::*;

use super::*;

fn cluster(range: &str, node_prefix: u8) -> ClusterRange {
    ClusterRange::new(range.parse().expect("a range"), node_prefix).expect("a cluster's range")
}

fn node(name: &str, ranges: &[&str]) -> NodeView {
    let mut node = NodeView::default();
    node.meta.name = name.into();
    node.meta.uid = format!("uid-{name}").into();
    node.pod_cidrs = ranges.iter().map(|range| (*range).into()).collect();
    node
}

/// The assignments, `name=range,range`, and the nodes without a range, `name!`.
fn planned(ipam: &mut Ipam) -> Vec<String> {
    let actions = ipam.plan(usize::MAX);
    let text = |action: &Action| match action {
        Action::Assign { node, ranges, .. } => {
            let ranges: Vec<String> = ranges.iter().map(IpNet::to_string).collect();
            format!("{node}={}", ranges.join(","))
        }
        Action::Unmark { node, .. } => format!("{node}?"),
        Action::NoneLeft { node, .. } => format!("{node}!"),
    };
    actions.iter().map(text).collect()
}

#[test]
fn each_new_node_gets_the_next_range() {
    let mut ipam = Ipam::new(&[cluster("10.244.0.0/16", 24)]);
    for name in ["a", "b", "c"] {
        ipam.put_node(&node(name, &[]));
    }
    assert_eq!(
        planned(&mut ipam),
        ["a=10.244.0.0/24", "b=10.244.1.0/24", "c=10.244.2.0/24"]
    );
    assert!(!ipam.has_work());
}

#[test]
fn a_cluster_of_two_families_gives_one_of_each() {
    let mut ipam = Ipam::new(&[cluster("10.244.0.0/16", 24), cluster("fd00:10:244::/56", 64)]);
    ipam.put_node(&node("a", &[]));
    ipam.put_node(&node("b", &[]));
    assert_eq!(
        planned(&mut ipam),
        [
            "a=10.244.0.0/24,fd00:10:244::/64",
            "b=10.244.1.0/24,fd00:10:244:1::/64"
        ]
    );
}

#[test]
fn what_a_node_brings_is_kept_and_not_given_to_others() {
    let mut ipam = Ipam::new(&[cluster("10.244.0.0/16", 24)]);
    // Half a block, two blocks, and a range outside.
    ipam.put_node(&node("half", &["10.244.0.128/25"]));
    ipam.put_node(&node("two", &["10.244.2.0/23"]));
    ipam.put_node(&node("other", &["192.0.2.0/24"]));
    ipam.put_node(&node("new", &[]));
    ipam.put_node(&node("newer", &[]));
    assert_eq!(planned(&mut ipam), ["new=10.244.1.0/24", "newer=10.244.4.0/24"]);
}

#[test]
fn a_range_that_was_given_back_rests_before_it_serves_again() {
    let mut ipam = Ipam::new(&[cluster("10.0.0.0/30", 32)]);
    for name in ["a", "b"] {
        ipam.put_node(&node(name, &[]));
    }
    assert_eq!(planned(&mut ipam), ["a=10.0.0.0/32", "b=10.0.0.1/32"]);
    ipam.delete_node("a");
    for name in ["c", "d", "e"] {
        ipam.put_node(&node(name, &[]));
    }
    assert_eq!(
        planned(&mut ipam),
        ["c=10.0.0.2/32", "d=10.0.0.3/32", "e=10.0.0.0/32"]
    );
}

#[test]
fn a_heartbeat_and_a_range_that_is_not_yet_seen_change_nothing() {
    let mut ipam = Ipam::new(&[cluster("10.244.0.0/16", 24)]);
    ipam.put_node(&node("a", &[]));
    assert_eq!(planned(&mut ipam), ["a=10.244.0.0/24"]);
    ipam.put_node(&node("a", &[]));
    ipam.put_node(&node("a", &["10.244.0.0/24"]));
    ipam.put_node(&node("a", &["10.244.0.0/24"]));
    assert!(!ipam.has_work());
}

#[test]
fn failed_write_is_planned_again_with_the_same_range() {
    let mut ipam = Ipam::new(&[cluster("10.244.0.0/16", 24)]);
    ipam.put_node(&node("a", &[]));
    ipam.put_node(&node("b", &[]));
    planned(&mut ipam);
    ipam.retry(&"b".into());
    assert_eq!(planned(&mut ipam), ["b=10.244.1.0/24"]);
    ipam.put_node(&node("b", &["10.244.9.0/24"]));
    ipam.retry(&"b".into());
    assert!(planned(&mut ipam).is_empty());
}

#[test]
fn recreated_node_gets_its_old_range_if_free() {
    let mut ipam = Ipam::new(&[cluster("10.244.0.0/16", 24)]);
    ipam.put_node(&node("a", &["10.244.7.0/24"]));
    let again = |uid: &str| {
        let mut again = node("a", &[]);
        again.meta.uid = uid.into();
        again
    };
    // The watch missed its deletion.
    ipam.put_node(&again("second"));
    assert_eq!(planned(&mut ipam), ["a=10.244.7.0/24"]);
    ipam.delete_node("a");
    ipam.put_node(&node("b", &["10.244.7.0/24"]));
    ipam.put_node(&again("third"));
    assert_eq!(planned(&mut ipam), ["a=10.244.0.0/24"]);
}

#[test]
fn each_node_without_a_range_is_marked_and_gets_the_next() {
    let mut ipam = Ipam::new(&[cluster("10.0.0.0/31", 32), cluster("fd00::/124", 128)]);
    for index in 0..1000 {
        ipam.put_node(&node(&format!("n{index:03}"), &[]));
    }
    let plan = planned(&mut ipam);
    assert_eq!(plan.len(), 1000);
    assert!(plan[2..].iter().all(|action| action.ends_with('!')), "{plan:?}");
    let mut marked = node("n002", &[]);
    marked.conditions = [NodeConditionView {
        kind: NETWORK_UNAVAILABLE.into(),
        status: "True".into(),
        reason: NONE_LEFT.into(),
        last_heartbeat_time: None,
        last_transition_time: None,
    }]
    .into();
    ipam.put_node(&marked);
    assert!(planned(&mut ipam).is_empty());
    ipam.delete_node("n000");
    // The range that the other family assigned was released.
    assert_eq!(planned(&mut ipam), ["n002=10.0.0.0/32,fd00::2/128"]);
    marked.pod_cidrs = ["10.0.0.0/32".into(), "fd00::2/128".into()].into();
    ipam.put_node(&marked);
    assert_eq!(planned(&mut ipam), ["n002?"]);
    assert!(planned(&mut ipam).is_empty());
    ipam.put_node(&node("late", &[]));
    assert_eq!(planned(&mut ipam), ["late!"]);
}

#[test]
fn the_message_names_the_range_that_is_used_up() {
    let mut ipam = Ipam::new(&[cluster("10.0.0.0/24", 24), cluster("fd00::/48", 64)]);
    ipam.put_node(&node("a", &[]));
    ipam.put_node(&node("b", &[]));
    let Some(Action::NoneLeft { message, .. }) = ipam.plan(2).pop() else {
        panic!("b has a range");
    };
    assert_eq!(
        message,
        "node b gets no pod range: all 1 ranges (/24) of --cluster-cidr 10.0.0.0/24 are taken. \
         Start the server with a larger --cluster-cidr or a larger --node-cidr-mask-size"
    );
}

#[test]
fn without_a_cluster_range_nobody_gets_one() {
    let mut ipam = Ipam::new(&[]);
    ipam.put_node(&node("a", &[]));
    assert!(!ipam.has_work());
}

#[test]
fn odd_splits_are_refused() {
    let refused =
        |range: &str, node_prefix| ClusterRange::new(range.parse().expect("a range"), node_prefix).is_err();
    assert!(refused("10.0.0.0/24", 16) && refused("10.0.0.0/8", 25) && refused("10.0.0.0/24", 33));
    assert!(refused("fd00::/48", 65) && refused("fd00::/48", 129));
    assert!(!refused("10.0.0.0/8", 24) && !refused("10.0.0.0/32", 32) && !refused("fd00::/48", 64));
}

proptest! {
    /// With any creations, deletions, failures and other writers, planned ranges never overlap
    /// those of other nodes.
    #[test]
    fn no_two_nodes_have_an_address_in_common(steps in prop::collection::vec((0..6u8, 0..12usize, 0..20u8), 1..120)) {
        let mut ipam = Ipam::new(&[cluster("10.0.0.0/28", 31)]);
        // The objects in the API. Ranges that nodes were created with may be any.
        let mut nodes: BTreeMap<String, (u32, Vec<IpNet>, bool)> = BTreeMap::new();
        let mut flying: BTreeMap<String, (String, Vec<IpNet>)> = BTreeMap::new();
        for (step, (kind, who, what)) in steps.into_iter().enumerate() {
            let name = format!("n{who}");
            match kind {
                0 | 1 if !nodes.contains_key(&name) => {
                    nodes.insert(name.clone(), (step as u32, Vec::new(), false));
                }
                2 if !nodes.contains_key(&name) => {
                    let taken = |range: &IpNet| nodes.values().any(|(_, held, _)| held.contains(range))
                        || flying.values().any(|(_, held)| held.contains(range));
                    let own: IpNet = format!("10.0.0.{}/31", what / 2 * 2).parse().expect("a range");
                    if !taken(&own) {
                        nodes.insert(name.clone(), (step as u32, vec![own], true));
                    }
                }
                3 => {
                    nodes.remove(&name);
                    flying.remove(&name);
                    ipam.delete_node(&name);
                }
                4 => if let Some((_, ranges)) = flying.remove(&name) && let Some(held) = nodes.get_mut(&name) {
                    held.1 = ranges;
                },
                _ => if flying.remove(&name).is_some() {
                    ipam.retry(&name.as_str().into());
                },
            }
            if let Some((uid, ranges, _)) = nodes.get(&name) {
                let texts: Vec<String> = ranges.iter().map(IpNet::to_string).collect();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let mut view = node(&name, &texts);
                view.meta.uid = uid.to_string().into();
                ipam.put_node(&view);
            }
            for action in ipam.plan(3) {
                if let Action::Assign { node, uid, ranges, .. } = action {
                    for (other, (_, held, _)) in &nodes {
                        prop_assert!(**other == *node || ranges.iter().all(|range| !held.contains(range)));
                    }
                    for (other, (_, held)) in &flying {
                        prop_assert!(**other == *node || ranges.iter().all(|range| !held.contains(range)));
                    }
                    flying.insert(node.to_string(), (uid.to_string(), ranges));
                }
            }
        }
    }
}
