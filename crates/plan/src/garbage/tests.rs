//! Owner references: a case for each rule, then a simulated cluster that must always end clean.

use proptest::prelude::*;

use super::*;

fn owner(of: &Object, block: bool) -> OwnerView {
    OwnerView {
        api_version: of.identity.api_version.clone(),
        kind: of.identity.kind.clone(),
        name: of.identity.name.clone(),
        uid: of.identity.uid.clone(),
        controller: false,
        block_owner_deletion: block,
    }
}

fn object(kind: &str, name: &str, owners: Vec<OwnerView>) -> Object {
    Object {
        identity: Identity {
            api_version: "v1".into(),
            kind: kind.into(),
            namespace: "default".into(),
            name: name.into(),
            uid: format!("uid-{name}").into(),
        },
        resource_version: 1,
        owners: owners.into(),
        deleting: false,
        foreground: false,
        orphan: false,
    }
}

fn all(graph: &mut Graph) -> Vec<Action> {
    graph.plan(usize::MAX)
}

fn delete(of: &Object, propagation: Propagation) -> Action {
    Action::Delete {
        object: of.identity.clone(),
        resource_version: of.resource_version,
        propagation,
    }
}

#[test]
fn a_dependent_of_a_living_owner_is_left_alone() {
    let (mut graph, set) = (Graph::new(), object("DaemonSet", "a", vec![]));
    graph.put(set.clone());
    graph.put(object("Pod", "p", vec![owner(&set, true)]));
    assert_eq!(all(&mut graph), vec![]);
}

#[test]
fn dependents_follow_owner_deleted_in_background() {
    let (mut graph, set) = (Graph::new(), object("DaemonSet", "a", vec![]));
    let pod = object("Pod", "p", vec![owner(&set, true)]);
    graph.put(set.clone());
    graph.put(pod.clone());
    all(&mut graph);
    graph.delete(&set.identity.uid);
    assert_eq!(all(&mut graph), vec![delete(&pod, Propagation::Background)]);
}

#[test]
fn unseen_owner_is_read_once_before_any_deletion() {
    let (mut graph, set) = (Graph::new(), object("DaemonSet", "a", vec![]));
    let pods: Vec<_> = (0..3)
        .map(|i| object("Pod", &format!("p{i}"), vec![owner(&set, true)]))
        .collect();
    pods.iter().for_each(|p| graph.put(p.clone()));
    let look = Action::Look {
        owner: owner(&set, true),
        namespace: "default".into(),
    };
    assert_eq!(all(&mut graph), vec![look]);
    graph.owner_is(&set.identity.uid, false);
    let gone: Vec<_> = pods.iter().map(|p| delete(p, Propagation::Background)).collect();
    assert_eq!(all(&mut graph), gone);
}

#[test]
fn unwatched_owner_counts_while_last_read_found_it() {
    let (mut graph, custom) = (Graph::new(), object("Widget", "w", vec![]));
    graph.put(object("Pod", "p", vec![owner(&custom, false)]));
    all(&mut graph);
    graph.owner_is(&custom.identity.uid, true);
    assert_eq!(all(&mut graph), vec![]);
    graph.recheck_unwatched();
    assert!(matches!(all(&mut graph).as_slice(), [Action::Look { .. }]));
}

#[test]
fn an_owner_deleted_in_the_foreground_waits_for_what_blocks_it() {
    let (mut graph, mut set) = (Graph::new(), object("DaemonSet", "a", vec![]));
    let blocking = object("Pod", "p", vec![owner(&set, true)]);
    let free = object("Pod", "q", vec![owner(&set, false)]);
    for o in [&set, &blocking, &free] {
        graph.put(o.clone());
    }
    all(&mut graph);
    set.deleting = true;
    set.foreground = true;
    graph.put(set.clone());
    let plan = all(&mut graph);
    assert_eq!(
        plan,
        vec![
            delete(&blocking, Propagation::Background),
            delete(&free, Propagation::Background)
        ]
    );
    graph.delete(&blocking.identity.uid);
    let done = Action::RemoveFinalizer {
        object: set.identity.clone(),
        finalizer: FOREGROUND_FINALIZER,
    };
    assert_eq!(all(&mut graph), vec![done]);
}

#[test]
fn foreground_goes_down_to_dependents_of_dependents() {
    let (mut graph, mut top) = (Graph::new(), object("Top", "a", vec![]));
    let middle = object("Middle", "b", vec![owner(&top, true)]);
    let leaf = object("Leaf", "c", vec![owner(&middle, true)]);
    for o in [&top, &middle, &leaf] {
        graph.put(o.clone());
    }
    all(&mut graph);
    top.deleting = true;
    top.foreground = true;
    graph.put(top);
    assert_eq!(all(&mut graph), vec![delete(&middle, Propagation::Foreground)]);
}

#[test]
fn a_circle_of_waiting_objects_lets_go() {
    let mut graph = Graph::new();
    let (mut a, mut b) = (object("A", "a", vec![]), object("B", "b", vec![]));
    a.owners = [owner(&b, true)].into();
    b.owners = [owner(&a, true)].into();
    graph.put(a.clone());
    graph.put(b.clone());
    all(&mut graph);
    a.deleting = true;
    a.foreground = true;
    graph.put(a.clone());
    let unblock = Action::Unblock {
        object: b.identity.clone(),
        owners: vec![a.identity.uid.clone()],
    };
    assert_eq!(
        all(&mut graph),
        vec![unblock, delete(&b, Propagation::Foreground)]
    );
}

#[test]
fn in_a_longer_circle_the_last_one_lets_go_of_its_own_owners() {
    let mut graph = Graph::new();
    let mut circle = ["a", "b", "c"].map(|name| object("Kind", name, vec![]));
    for (dependent, on) in [(0, 1), (1, 2), (2, 0)] {
        circle[dependent].owners = [owner(&circle[on], true)].into();
    }
    circle.iter().for_each(|object| graph.put(object.clone()));
    all(&mut graph);
    for (waiting, next) in [(0, 2), (2, 1)] {
        circle[waiting].deleting = true;
        circle[waiting].foreground = true;
        graph.put(circle[waiting].clone());
        let plan = all(&mut graph);
        let deletion = delete(&circle[next], Propagation::Foreground);
        if next == 2 {
            assert_eq!(plan, vec![deletion]);
        } else {
            let unblock = Action::Unblock {
                object: circle[1].identity.clone(),
                owners: vec![circle[2].identity.uid.clone()],
            };
            assert_eq!(plan, vec![unblock, deletion]);
        }
    }
}

#[test]
fn orphaning_strips_every_dependent_and_then_lets_the_owner_go() {
    let (mut graph, mut set) = (Graph::new(), object("DaemonSet", "a", vec![]));
    let mut pod = object("Pod", "p", vec![owner(&set, true)]);
    graph.put(set.clone());
    graph.put(pod.clone());
    all(&mut graph);
    set.deleting = true;
    set.orphan = true;
    graph.put(set.clone());
    let strip = Action::StripOwners {
        object: pod.identity.clone(),
        owners: vec![set.identity.uid.clone()],
    };
    assert_eq!(all(&mut graph), vec![strip]);
    pod.owners = [].into();
    graph.put(pod);
    let done = Action::RemoveFinalizer {
        object: set.identity.clone(),
        finalizer: ORPHAN_FINALIZER,
    };
    assert_eq!(all(&mut graph), vec![done]);
    graph.delete(&set.identity.uid);
    assert_eq!(all(&mut graph), vec![], "an orphan stays");
}

#[test]
fn living_owner_keeps_object_and_dangling_reference_is_removed() {
    let mut graph = Graph::new();
    let (alive, dead) = (
        object("ConfigMap", "alive", vec![]),
        object("ConfigMap", "dead", vec![]),
    );
    let both = object("Pod", "p", vec![owner(&alive, false), owner(&dead, false)]);
    for o in [&alive, &dead, &both] {
        graph.put(o.clone());
    }
    all(&mut graph);
    graph.delete(&dead.identity.uid);
    let strip = Action::StripOwners {
        object: both.identity.clone(),
        owners: vec![dead.identity.uid.clone()],
    };
    assert_eq!(all(&mut graph), vec![strip]);
}

#[test]
fn owner_in_another_namespace_is_ignored_and_reported() {
    let (mut graph, set) = (Graph::new(), object("DaemonSet", "a", vec![]));
    let mut pod = object("Pod", "p", vec![owner(&set, true)]);
    pod.identity.namespace = "other".into();
    graph.put(set.clone());
    graph.put(pod.clone());
    let warning = Action::Warn {
        object: pod.identity.clone(),
        owner: owner(&set, true),
    };
    assert_eq!(
        all(&mut graph),
        vec![warning, delete(&pod, Propagation::Background)]
    );
    graph.retry(&pod.identity.uid);
    assert_eq!(all(&mut graph), vec![delete(&pod, Propagation::Background)]);
}

#[test]
fn object_with_living_owner_is_released_by_foreground_owner() {
    let mut graph = Graph::new();
    let (alive, mut going) = (
        object("ConfigMap", "alive", vec![]),
        object("ConfigMap", "going", vec![]),
    );
    let both = object("Pod", "p", vec![owner(&alive, true), owner(&going, true)]);
    for o in [&alive, &going, &both] {
        graph.put(o.clone());
    }
    all(&mut graph);
    going.deleting = true;
    going.foreground = true;
    graph.put(going.clone());
    let strip = Action::StripOwners {
        object: both.identity.clone(),
        owners: vec![going.identity.uid.clone()],
    };
    assert_eq!(all(&mut graph), vec![strip]);
}

#[test]
fn a_deletion_names_the_version_that_it_was_decided_on() {
    let (mut graph, set) = (Graph::new(), object("DaemonSet", "a", vec![]));
    let mut pod = object("Pod", "p", vec![owner(&set, true)]);
    graph.put(pod.clone());
    all(&mut graph);
    pod.resource_version = 9;
    graph.put(pod.clone());
    graph.owner_is(&set.identity.uid, false);
    assert_eq!(all(&mut graph), vec![delete(&pod, Propagation::Background)]);
}

#[test]
fn cluster_scoped_object_outlives_namespaced_owner() {
    let (mut graph, set) = (Graph::new(), object("DaemonSet", "a", vec![]));
    let mut class = object("PriorityClass", "p", vec![owner(&set, true)]);
    class.identity.namespace = "".into();
    graph.put(set);
    graph.put(class.clone());
    assert!(matches!(all(&mut graph).as_slice(), [Action::Warn { .. }]));
    graph.retry(&class.identity.uid);
    assert_eq!(all(&mut graph), vec![], "one warning is enough");
}

#[test]
fn a_recreated_owner_of_the_same_name_does_not_inherit() {
    let (mut graph, set) = (Graph::new(), object("DaemonSet", "a", vec![]));
    let pod = object("Pod", "p", vec![owner(&set, true)]);
    let mut again = set.clone();
    again.identity.uid = "uid-2".into();
    graph.put(set.clone());
    graph.put(pod.clone());
    graph.delete(&set.identity.uid);
    graph.put(again);
    assert_eq!(all(&mut graph), vec![delete(&pod, Propagation::Background)]);
}

/// A small model of the API server, which carries out the actions.
fn obey(cluster: &mut BTreeMap<Uid, Object>, graph: &mut Graph, action: Action) {
    let touch =
        |cluster: &mut BTreeMap<Uid, Object>, graph: &mut Graph, uid: &Uid, change: &dyn Fn(&mut Object)| {
            if let Some(o) = cluster.get_mut(uid) {
                change(o);
                if o.deleting && !o.foreground && !o.orphan {
                    cluster.remove(uid);
                    graph.delete(uid);
                } else {
                    graph.put(o.clone());
                }
            }
        };
    match action {
        Action::Look { owner, .. } => graph.owner_is(&owner.uid, cluster.contains_key(&owner.uid)),
        Action::Delete {
            object, propagation, ..
        } => touch(cluster, graph, &object.uid, &|o| {
            o.deleting = true;
            o.foreground |= propagation == Propagation::Foreground;
            o.orphan |= propagation == Propagation::Orphan;
        }),
        Action::StripOwners { object, owners } => {
            touch(cluster, graph, &object.uid, &|o| {
                o.owners = o
                    .owners
                    .iter()
                    .filter(|r| !owners.contains(&r.uid))
                    .cloned()
                    .collect();
            });
        }
        Action::Unblock { object, owners } => touch(cluster, graph, &object.uid, &|o| {
            let mut references = o.owners.to_vec();
            references
                .iter_mut()
                .filter(|r| owners.contains(&r.uid))
                .for_each(|r| r.block_owner_deletion = false);
            o.owners = references.into();
        }),
        Action::RemoveFinalizer { object, finalizer } => {
            touch(cluster, graph, &object.uid, &|o| match finalizer {
                FOREGROUND_FINALIZER => o.foreground = false,
                _ => o.orphan = false,
            })
        }
        Action::Warn { .. } => {}
    }
}

proptest! {
    /// With any owners (including cycles) and any deletion of one object, the object is deleted,
    /// and so is everything that only it owned (orphaned, that stays). Everything with a remaining
    /// owner, or without owners from the start, is untouched.
    #[test]
    fn every_deletion_ends_and_takes_exactly_what_hung_on_it(
        edges in proptest::collection::vec((0usize..8, 0usize..8, any::<bool>()), 0..16),
        victim in 0usize..8,
        how in 0u8..3,
    ) {
        let mut objects: Vec<_> = (0..8).map(|i| object("Kind", &format!("o{i}"), vec![])).collect();
        for (from, to, block) in edges {
            let reference = owner(&objects[to], block);
            if from != to && !objects[from].owners.iter().any(|o| o.uid == reference.uid) {
                objects[from].owners = objects[from].owners.iter().cloned().chain([reference]).collect();
            }
        }
        // What should remain, by the plain rule: delete the object, then repeatedly everything that
        // has owners of which none is left.
        let mut remaining: BTreeMap<Uid, Object> = objects.iter().map(|o| (o.identity.uid.clone(), o.clone())).collect();
        let victim = objects[victim].identity.uid.clone();
        remaining.remove(&victim);
        if how == 2 {
            remaining.values_mut().for_each(|o| o.owners = o.owners.iter().filter(|r| r.uid != victim).cloned().collect());
        }
        while let Some(gone) = remaining.values()
            .find(|o| !o.owners.is_empty() && o.owners.iter().all(|r| !remaining.contains_key(&r.uid)))
            .map(|o| o.identity.uid.clone())
        {
            remaining.remove(&gone);
        }

        let mut cluster: BTreeMap<Uid, Object> = objects.iter().map(|o| (o.identity.uid.clone(), o.clone())).collect();
        let mut graph = Graph::new();
        objects.into_iter().for_each(|o| graph.put(o));
        prop_assert_eq!(all(&mut graph), vec![]);
        let propagation = [Propagation::Background, Propagation::Foreground, Propagation::Orphan][how as usize];
        let identity = cluster[&victim].identity.clone();
        obey(&mut cluster, &mut graph, Action::Delete { object: identity, resource_version: 1, propagation });
        for round in 0.. {
            prop_assert!(round < 200, "the collection does not end");
            let actions = all(&mut graph);
            if actions.is_empty() { break }
            for action in actions { obey(&mut cluster, &mut graph, action) }
        }
        let left: Vec<_> = cluster.keys().collect();
        let expected: Vec<_> = remaining.keys().collect();
        // In a cycle, a foreground deletion deletes the whole cycle. A background deletion leaves
        // it, because it owns itself.
        if how == 1 {
            prop_assert!(left.iter().all(|uid| remaining.contains_key(*uid)), "left {:?}, expected {:?}", left, expected);
        } else {
            prop_assert_eq!(left, expected);
        }
    }
}
