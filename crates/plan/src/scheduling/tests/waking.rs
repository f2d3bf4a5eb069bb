use super::*;

#[test]
fn higher_priority_has_the_first_turn() {
    let mut scheduler = with(&[node("a")]);
    scheduler.put_pod(&pinned("low", "a", |_| {}));
    scheduler.put_pod(&pinned("high", "a", |p| p["spec"]["priority"] = 1000.into()));
    assert_eq!(&*scheduler.next(at(0)).expect("a turn").0.pod.name, "high");
}

#[test]
fn parked_pod_is_woken_by_its_node_and_backs_off() {
    let taint = |n: &mut Value| n["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
    let mut scheduler = with(&[node_of("a", taint), node("b")]);
    scheduler.put_pod(&pinned("p", "a", |_| {}));
    scheduler.next(at(0)).expect("a turn");
    scheduler.put_node(&node_of("b", |n| n["spec"]["unschedulable"] = true.into()));
    assert!(
        scheduler.next(at(5)).is_none(),
        "another node's change does not concern it"
    );
    scheduler.put_node(&node("a"));
    assert!(scheduler.next(at(0)).is_none(), "the back-off of 1 s is not over");
    assert_eq!(scheduler.next_turn(), Some(at(1)));
    assert_eq!(scheduler.next(at(1)).expect("a turn").0.verdict, bind("a"));
}

#[test]
fn room_that_a_pod_leaves_wakes_who_waits_for_it() {
    let mut scheduler = with(&[node_of("a", |n| n["status"]["allocatable"]["pods"] = "1".into())]);
    let first = pinned("first", "a", |_| {});
    assert_eq!(verdict(&mut scheduler, &first), bind("a"));
    refusal(&mut scheduler, &pinned("second", "a", |_| {}));
    scheduler.delete_pod(&PodKey::of(&first));
    assert_eq!(scheduler.next(at(2)).expect("a turn").0.verdict, bind("a"));
}

#[test]
fn nothing_is_written_twice_while_nothing_changes() {
    let mut scheduler = with(&[]);
    let message = refusal(&mut scheduler, &pinned("p", "a", |_| {}));
    let said = pinned("p", "a", |p| {
        p["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]);
    });
    scheduler.put_pod(&said);
    let (decision, _) = scheduler.next(at(400)).expect("the look after five minutes");
    assert!(decision.known);
}

#[test]
fn a_failed_binding_gives_the_room_back() {
    let mut scheduler = with(&[node_of("a", |n| n["status"]["allocatable"]["pods"] = "1".into())]);
    let pod = pinned("p", "a", |_| {});
    assert_eq!(verdict(&mut scheduler, &pod), bind("a"));
    scheduler.bind_failed(&PodKey::of(&pod), &pod, at(0));
    assert_eq!(scheduler.next(at(1)).expect("a turn").0.verdict, bind("a"));
}

#[test]
fn gated_terminating_and_foreign_pods_are_left_alone() {
    let mut scheduler = with(&[node("a")]);
    scheduler.put_pod(&pinned("gated", "a", |p| {
        p["spec"]["schedulingGates"] = json!([{"name": "wait"}])
    }));
    scheduler.put_pod(&pinned("going", "a", |p| {
        p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()
    }));
    scheduler.put_pod(&pinned("other", "a", |p| {
        p["spec"]["schedulerName"] = "mine".into()
    }));
    assert!(scheduler.next(at(0)).is_none());
}

/// Ten equal pods that do not fit.
fn ten_that_wait(scheduler: &mut Scheduler) {
    for i in 0..10 {
        scheduler.put_pod(&pod_of(&format!("p{i}"), |p| requests(p, "cpu", "2")));
    }
    let turns = std::iter::from_fn(|| scheduler.next(at(0))).count();
    assert_eq!(turns, 10);
}

fn full(name: &str) -> Arc<PodView> {
    running(name, "a", |p| requests(p, "cpu", "2"))
}

#[test]
fn room_for_one_wakes_one_of_those_that_are_alike() {
    let mut scheduler = with(&[node("a")]);
    let (first, second) = (full("first"), full("second"));
    scheduler.put_pod(&first);
    scheduler.put_pod(&second);
    ten_that_wait(&mut scheduler);
    scheduler.delete_pod(&PodKey::of(&first));
    let turns: Vec<_> = std::iter::from_fn(|| scheduler.next(at(1))).collect();
    assert_eq!(turns.len(), 1, "one had a turn, the others need not look");
    assert_eq!(turns[0].0.verdict, bind("a"));
}

#[test]
fn a_new_node_takes_as_many_of_them_as_it_has_room_for() {
    let mut scheduler = with(&[]);
    ten_that_wait(&mut scheduler);
    scheduler.put_node(&node("a"));
    let turns: Vec<_> = std::iter::from_fn(|| scheduler.next(at(1))).collect();
    assert_eq!(turns.len(), 2);
    assert_eq!(on(&scheduler, "a"), 2);
}

#[test]
fn pod_like_a_refused_one_is_refused_and_woken_with_it() {
    let mut scheduler = with(&[node("a")]);
    scheduler.put_pod(&full("first"));
    scheduler.put_pod(&full("second"));
    ten_that_wait(&mut scheduler);
    let late = pod_of("late", |p| requests(p, "cpu", "2"));
    let message = refusal(&mut scheduler, &late);
    assert!(
        message.starts_with("0/1 nodes are available: 1 Insufficient cpu."),
        "{message}"
    );
    for i in 0..10 {
        let key = PodKey::of(&pod_of(&format!("p{i}"), |_| {}));
        scheduler.delete_pod(&key);
    }
    scheduler.delete_pod(&PodKey::of(&full("first")));
    let (decision, _) = scheduler.next(at(1)).expect("the late one is woken");
    assert_eq!((&*decision.pod.name, decision.verdict), ("late", bind("a")));
}

#[test]
fn a_scout_that_goes_leaves_its_errand_to_the_next() {
    let mut scheduler = with(&[node("a")]);
    scheduler.put_pod(&full("first"));
    scheduler.put_pod(&full("second"));
    ten_that_wait(&mut scheduler);
    scheduler.delete_pod(&PodKey::of(&full("first")));
    scheduler.delete_pod(&PodKey::of(&pod_of("p0", |_| {})));
    let (decision, _) = scheduler.next(at(1)).expect("a turn");
    assert_eq!((&*decision.pod.name, decision.verdict), ("p1", bind("a")));
}

#[test]
fn a_change_that_does_not_help_wakes_nobody() {
    let mut scheduler = with(&[node("a"), node("b")]);
    let hungry = |name: &str| pod_of(name, |p| requests(p, "cpu", "5"));
    refusal(&mut scheduler, &hungry("p"));
    scheduler.put_pod(&running("q", "a", |_| {}));
    scheduler.delete_pod(&PodKey::of(&running("q", "a", |_| {})));
    scheduler.put_node(&labelled("b", "disk", "ssd"));
    assert!(scheduler.next(at(100)).is_none());
    scheduler.put_node(&node_of("b", |n| n["status"]["allocatable"]["cpu"] = "8".into()));
    assert_eq!(scheduler.next(at(100)).expect("a turn").0.verdict, bind("b"));
}

#[test]
fn the_back_off_doubles_to_ten_seconds() {
    let mut scheduler = with(&[]);
    // Each new node might be in the missing domain, so each wakes the pod; none is.
    let pod = pod_of("p", |p| {
        p["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]);
    });
    scheduler.put_pod(&pod);
    let mut now = 0;
    for (turn, wait) in [1, 2, 4, 8, 10, 10].into_iter().enumerate() {
        scheduler.next(at(now)).expect("a turn");
        scheduler.put_node(&node(&format!("n{turn}")));
        assert!(scheduler.next(at(now + wait - 1)).is_none());
        now += wait;
        assert_eq!(scheduler.next_turn(), Some(at(now)));
    }
}

#[test]
fn pod_deleted_during_binding_is_not_bound_again() {
    let mut scheduler = with(&[node("a")]);
    let pod = pinned("p", "a", |_| {});
    assert_eq!(verdict(&mut scheduler, &pod), bind("a"));
    scheduler.put_pod(&pinned("p", "a", |p| {
        p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }));
    scheduler.bind_failed(&PodKey::of(&pod), &pod, at(0));
    assert_eq!((scheduler.pending(), on(&scheduler, "a")), (0, 0));
}

/// The work that `change` causes.
fn cost(scheduler: &mut Scheduler, change: impl FnOnce(&mut Scheduler)) -> Work {
    let before = scheduler.work();
    change(scheduler);
    let after = scheduler.work();
    Work {
        turns: after.turns - before.turns,
        looks: after.looks - before.looks,
    }
}

fn turns(scheduler: &mut Scheduler, second: i64) {
    while scheduler.next(at(second)).is_some() {}
}

#[test]
fn a_pinned_pod_costs_a_look_at_its_node() {
    let nodes: Vec<_> = (0..100).map(|i| node(&format!("n{i}"))).collect();
    let mut scheduler = with(&nodes);
    let work = cost(&mut scheduler, |scheduler| {
        for i in 0..100 {
            scheduler.put_pod(&pinned(&format!("p{i}"), &format!("n{i}"), |_| {}));
        }
        turns(scheduler, 0);
    });
    assert_eq!(
        work,
        Work {
            turns: 100,
            looks: 100
        }
    );
}

#[test]
fn many_pods_that_do_not_fit_cost_an_event_one_look() {
    let nodes: Vec<_> = (0..100).map(|i| node(&format!("n{i}"))).collect();
    let mut scheduler = with(&nodes);
    for i in 0..100 {
        scheduler.put_pod(&running(&format!("full{i}"), &format!("n{i}"), |p| {
            requests(p, "cpu", "4")
        }));
    }
    let waiting = cost(&mut scheduler, |scheduler| {
        for i in 0..1_000 {
            scheduler.put_pod(&pod_of(&format!("p{i}"), |p| requests(p, "cpu", "4")));
        }
        turns(scheduler, 0);
    });
    // The first pod checks every node; the others get the same refusal.
    assert_eq!(
        waiting,
        Work {
            turns: 1_000,
            looks: 100
        }
    );
    let no_help = cost(&mut scheduler, |scheduler| {
        scheduler.put_node(&labelled("n1", "disk", "ssd"));
        turns(scheduler, 20);
    });
    assert_eq!(no_help, Work { turns: 0, looks: 1 });
    let room_for_one = cost(&mut scheduler, |scheduler| {
        scheduler.delete_pod(&PodKey::of(&running("full7", "n7", |_| {})));
        turns(scheduler, 40);
    });
    // The check that wakes one pod, its attempt, and a check whether another pod fits. The search
    // begins where the last one ended.
    assert_eq!(room_for_one.turns, 1);
    assert!(room_for_one.looks <= 102, "{room_for_one:?}");
}

#[test]
fn without_a_change_one_of_them_looks_again_after_five_minutes() {
    let mut scheduler = with(&[]);
    ten_that_wait(&mut scheduler);
    assert_eq!(scheduler.next_turn(), Some(at(300)));
    assert!(scheduler.next(at(299)).is_none());
    let turns = std::iter::from_fn(|| scheduler.next(at(300))).count();
    assert_eq!(turns, 1);
    assert_eq!(scheduler.next_turn(), Some(at(600)));
}

#[test]
fn a_changed_toleration_gives_a_turn_at_once() {
    let tainted = node_of("a", |n| {
        n["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}])
    });
    let mut scheduler = with(&[tainted]);
    refusal(&mut scheduler, &pinned("p", "a", |_| {}));
    let tolerant = pinned("p", "a", |p| {
        p["spec"]["tolerations"] = json!([{"operator": "Exists"}])
    });
    assert_eq!(verdict(&mut scheduler, &tolerant), bind("a"));
}

#[test]
fn removing_the_last_gate_gives_a_turn() {
    let mut scheduler = with(&[node("a")]);
    scheduler.put_pod(&pinned("p", "a", |p| {
        p["spec"]["schedulingGates"] = json!([{"name": "wait"}])
    }));
    assert!(scheduler.next(at(0)).is_none());
    assert_eq!(verdict(&mut scheduler, &pinned("p", "a", |_| {})), bind("a"));
}
