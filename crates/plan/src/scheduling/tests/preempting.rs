use super::*;

fn prioritised(priority: i32, cpu: &'static str) -> impl Fn(&mut Value) {
    move |pod| {
        pod["spec"]["priority"] = priority.into();
        requests(pod, "cpu", cpu);
    }
}

/// A node with 4 CPUs, full of pods: (name, priority, cpu).
fn full(name: &str, pods: &[(&str, i32, &'static str)]) -> Scheduler {
    let mut scheduler = with(&[node(name)]);
    for (pod, priority, cpu) in pods {
        scheduler.put_pod(&running(pod, name, prioritised(*priority, cpu)));
    }
    scheduler
}

fn names(pods: &[Arc<PodView>]) -> Vec<String> {
    pods.iter().map(|pod| pod.meta.name.to_string()).collect()
}

/// The node, and the victims.
fn preempts(scheduler: &mut Scheduler, pod: &Arc<PodView>) -> (String, Vec<String>) {
    match verdict(scheduler, pod) {
        Verdict::Unschedulable {
            preemption: Some(preemption),
            nominated,
            ..
        } => {
            assert_eq!(nominated.as_ref(), Some(&preemption.node));
            (preemption.node.to_string(), names(&preemption.victims))
        }
        other => panic!("{other:?}"),
    }
}

fn taken(node: &str, victims: &[&str]) -> (String, Vec<String>) {
    (node.to_owned(), victims.iter().map(|v| (*v).to_owned()).collect())
}

fn budget(name: &str, app: &str, allowed: i32) -> Arc<PodDisruptionBudgetView> {
    let budget = json!({"metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}}, "status": {"disruptionsAllowed": allowed}});
    Arc::new(serde_json::from_value(budget).expect("a budget"))
}

#[test]
fn critical_daemon_preempts_on_a_full_node() {
    let mut scheduler = full("a", &[("web", 0, "3"), ("agent", 1000, "1")]);
    scheduler.put_node(&node("b"));
    let daemon = pinned("daemon", "a", prioritised(2_000_001_000, "2"));
    scheduler.put_pod(&daemon);
    let (decision, _) = scheduler.next(at(0)).expect("a turn");
    let Verdict::Unschedulable {
        message,
        nominated,
        preemption: Some(preemption),
    } = decision.verdict
    else {
        panic!("it waits for its victims");
    };
    assert_eq!(
        message,
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
    assert_eq!(nominated.as_deref(), Some("a"));
    assert_eq!(names(&preemption.victims), ["web"]);
    scheduler.delete_pod(&PodKey::of(&running("web", "a", |_| {})));
    assert_eq!(scheduler.next(at(1)).expect("a turn").0.verdict, bind("a"));
}

#[test]
fn only_pods_of_a_strictly_lower_priority_give_way() {
    let mut scheduler = full("a", &[("equal", 10, "2"), ("higher", 20, "2")]);
    assert_eq!(
        refusal(&mut scheduler, &pinned("p", "a", prioritised(10, "1"))),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 No preemption victims found for incoming pod."
    );
}

#[test]
fn nobody_goes_when_the_pod_would_not_fit_even_then() {
    let mut scheduler = full("a", &[("low", 0, "1"), ("high", 20, "3")]);
    assert_eq!(
        refusal(&mut scheduler, &pinned("p", "a", prioritised(10, "2"))),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Insufficient cpu."
    );
}

#[test]
fn nobody_goes_from_a_node_that_would_not_take_the_pod_anyway() {
    let mut scheduler = full("a", &[("low", 0, "4")]);
    scheduler.put_node(&node_of("a", |n| {
        n["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}])
    }));
    assert_eq!(
        refusal(&mut scheduler, &pinned("p", "a", prioritised(10, "1"))),
        "0/1 nodes are available: 1 node(s) had untolerated taint(s). preemption: 0/1 nodes are available: \
         1 Preemption is not helpful for scheduling."
    );
}

#[test]
fn a_pod_that_never_preempts_waits() {
    let mut scheduler = full("a", &[("low", 0, "4")]);
    let polite = pinned("p", "a", |p| {
        prioritised(10, "1")(p);
        p["spec"]["preemptionPolicy"] = "Never".into();
    });
    let message = refusal(&mut scheduler, &polite);
    assert!(
        message.ends_with("preemption: not eligible due to preemptionPolicy=Never."),
        "{message}"
    );
}

#[test]
fn no_more_go_than_must_and_the_least_important_first() {
    let pods = [("p3", 3, "1"), ("p1", 1, "1"), ("p2", 2, "1"), ("p0", 0, "1")];
    let mut scheduler = full("a", &pods);
    assert_eq!(
        preempts(&mut scheduler, &pinned("p", "a", prioritised(10, "2"))),
        taken("a", &["p1", "p0"])
    );
}

#[test]
fn of_equal_pods_the_younger_goes() {
    let mut scheduler = with(&[node("a")]);
    for (name, day) in [("old", 1), ("young", 2), ("older", 0)] {
        scheduler.put_pod(&running(name, "a", |p| {
            requests(p, "cpu", "1300m");
            p["metadata"]["creationTimestamp"] = format!("2026-01-0{}T00:00:00Z", day + 1).into();
        }));
    }
    assert_eq!(
        preempts(&mut scheduler, &pinned("p", "a", prioritised(1, "1"))),
        taken("a", &["young"])
    );
}

#[test]
fn who_is_going_anyway_gives_way_first_and_is_not_deleted_again() {
    let mut scheduler = full("a", &[("stays", 0, "2")]);
    scheduler.put_pod(&running("going", "a", |p| {
        prioritised(5, "2")(p);
        p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }));
    assert_eq!(
        preempts(&mut scheduler, &pinned("p", "a", prioritised(10, "2"))),
        taken("a", &[])
    );
}

#[test]
fn a_budget_is_broken_only_when_there_is_no_other_way() {
    let of = |app: &'static str, priority| {
        move |p: &mut Value| {
            prioritised(priority, "2")(p);
            p["metadata"]["labels"] = json!({"app": app});
        }
    };
    for (cpu, victims) in [("2", vec!["free"]), ("3", vec!["free", "kept"])] {
        let mut scheduler = with(&[node("a")]);
        scheduler.put_budget(&budget("b", "kept", 0));
        scheduler.put_pod(&running("kept", "a", of("kept", 0)));
        scheduler.put_pod(&running("free", "a", of("free", 5)));
        assert_eq!(
            preempts(&mut scheduler, &pinned("p", "a", prioritised(10, cpu))),
            taken("a", &victims)
        );
    }
}

#[test]
fn a_budget_that_allows_one_is_not_broken_by_one() {
    let of = |p: &mut Value| {
        prioritised(0, "2")(p);
        p["metadata"]["labels"] = json!({"app": "kept"});
    };
    let mut scheduler = with(&[node("a"), node("b")]);
    scheduler.put_budget(&budget("b", "kept", 1));
    scheduler.put_pod(&running("a1", "a", of));
    scheduler.put_pod(&running("a2", "a", of));
    scheduler.put_pod(&running("b1", "b", of));
    scheduler.put_pod(&running("b2", "b", prioritised(1, "2")));
    // Preempting on a violates the budget, on b it does not, but costs a pod of a higher priority.
    assert_eq!(
        preempts(&mut scheduler, &pod_of("p", prioritised(10, "4"))),
        taken("b", &["b2", "b1"])
    );
}

#[test]
fn the_node_where_it_hurts_least_is_taken() {
    /// Name, node, priority and cpu of a pod.
    type Pods = Vec<(&'static str, &'static str, i32, &'static str)>;
    let cases: [(&str, Pods); 3] = [
        (
            "the least important of the most important",
            vec![("a1", "a", 2, "4"), ("b1", "b", 1, "2"), ("b2", "b", 1, "2")],
        ),
        (
            "the least sum",
            vec![
                ("a1", "a", 1, "2"),
                ("a2", "a", 1, "2"),
                ("b1", "b", 1, "2"),
                ("b2", "b", 0, "2"),
            ],
        ),
        (
            "the fewest",
            vec![("a1", "a", 1, "2"), ("a2", "a", 1, "2"), ("b1", "b", 1, "4")],
        ),
    ];
    for (what, pods) in cases {
        let mut scheduler = with(&[node("a"), node("b")]);
        for (name, node, priority, cpu) in pods {
            scheduler.put_pod(&running(name, node, prioritised(priority, cpu)));
        }
        let (node, _) = preempts(&mut scheduler, &pod_of("p", prioritised(10, "4")));
        assert_eq!(node, "b", "{what}");
    }
}

#[test]
fn a_host_port_and_an_avoided_neighbour_can_be_won_too() {
    let mut scheduler = with(&[labelled("a", "zone", "x")]);
    let port =
        |p: &mut Value| p["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    scheduler.put_pod(&running("holder", "a", port));
    scheduler.put_pod(&running("avoided", "a", |p| {
        p["metadata"]["labels"] = json!({"app": "db"})
    }));
    scheduler.put_pod(&running("bystander", "a", |_| {}));
    let pod = pinned("p", "a", |p| {
        port(p);
        p["spec"]["priority"] = 10.into();
        p["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}]);
    });
    let (_, mut victims) = preempts(&mut scheduler, &pod);
    victims.sort();
    assert_eq!(victims, ["avoided", "holder"]);
}

#[test]
fn room_that_is_being_made_is_kept_from_pods_that_come_after() {
    let mut scheduler = full("a", &[("low", 0, "4")]);
    preempts(&mut scheduler, &pinned("p", "a", prioritised(10, "4")));
    scheduler.delete_pod(&PodKey::of(&running("low", "a", |_| {})));
    for (priority, fits) in [(9, false), (10, false), (11, true)] {
        let other = pinned(&format!("other{priority}"), "a", prioritised(priority, "1"));
        let is_bound = verdict(&mut scheduler, &other) == bind("a");
        assert_eq!(is_bound, fits, "priority {priority}");
    }
}

#[test]
fn a_pod_waits_for_its_victims_without_taking_more() {
    let mut scheduler = full("a", &[("low", 0, "3"), ("mid", 5, "1")]);
    let pod = pinned("p", "a", prioritised(10, "3"));
    assert_eq!(preempts(&mut scheduler, &pod), taken("a", &["low"]));
    // Another attempt, because something else changed.
    scheduler.put_pod(&pinned("p", "a", |p| {
        prioritised(10, "3")(p);
        p["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    }));
    let (decision, _) = scheduler.next(at(1)).expect("a turn");
    let Verdict::Unschedulable {
        message,
        nominated,
        preemption: None,
    } = decision.verdict
    else {
        panic!("it waits");
    };
    assert!(
        message.ends_with("preemption: not eligible due to a terminating pod on the nominated node."),
        "{message}"
    );
    assert_eq!(nominated.as_deref(), Some("a"));
}

#[test]
fn victim_that_cannot_be_deleted_stays_and_pod_retries() {
    let mut scheduler = full("a", &[("low", 0, "4")]);
    let pod = pinned("p", "a", prioritised(10, "4"));
    preempts(&mut scheduler, &pod);
    scheduler.preemption_failed(&PodKey::of(&pod), &running("low", "a", |_| {}));
    let (decision, _) = scheduler.next(at(1)).expect("a turn");
    assert!(matches!(
        decision.verdict,
        Verdict::Unschedulable {
            preemption: Some(_),
            ..
        }
    ));
}

#[test]
fn a_nomination_ends_when_it_is_no_longer_true() {
    type Change = fn(&mut Scheduler);
    let low_goes: Change = |scheduler| scheduler.delete_pod(&PodKey::of(&running("low", "a", |_| {})));
    let cases: [(&str, Change); 3] = [
        ("someone more important has the place", |scheduler| {
            scheduler.put_pod(&running("vip", "a", prioritised(20, "4")));
        }),
        ("the node takes nobody", |scheduler| {
            scheduler.put_node(&node_of("a", |n| n["spec"]["unschedulable"] = true.into()));
        }),
        ("the node is gone", |scheduler| scheduler.delete_node("a")),
    ];
    for (what, change) in cases {
        let mut scheduler = full("a", &[("low", 0, "4")]);
        preempts(&mut scheduler, &pod_of("p", prioritised(10, "4")));
        change(&mut scheduler);
        low_goes(&mut scheduler);
        let (decision, _) = scheduler.next(at(1)).expect(what);
        let is_over = matches!(
            decision.verdict,
            Verdict::Unschedulable {
                nominated: None,
                preemption: None,
                ..
            }
        );
        assert!(is_over, "{what}");
    }
}

#[test]
fn a_nomination_of_a_lower_priority_gives_way() {
    let mut scheduler = full("a", &[("low", 0, "4")]);
    let first = pinned("first", "a", prioritised(5, "4"));
    preempts(&mut scheduler, &first);
    let second = pinned("second", "a", prioritised(10, "4"));
    scheduler.put_pod(&second);
    let (decision, _) = scheduler.next(at(0)).expect("a turn");
    let Verdict::Unschedulable {
        preemption: Some(preemption),
        ..
    } = decision.verdict
    else {
        panic!("it takes the place");
    };
    assert_eq!(names(&preemption.unseated), ["first"]);
    assert_eq!(
        names(&preemption.victims),
        ["low"],
        "asked to go already, but not seen to"
    );
}

#[test]
fn a_nomination_is_known_from_the_status_after_a_restart() {
    let mut scheduler = with(&[node("a")]);
    let nominated = pinned("p", "a", |p| {
        prioritised(10, "4")(p);
        p["status"]["nominatedNodeName"] = "a".into();
    });
    scheduler.put_pod(&running("low", "a", |p| {
        prioritised(0, "4")(p);
        p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        p["status"]["conditions"] =
            json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
    }));
    scheduler.put_pod(&nominated);
    let message = match scheduler.next(at(0)).expect("a turn").0.verdict {
        Verdict::Unschedulable {
            message,
            preemption: None,
            ..
        } => message,
        other => panic!("{other:?}"),
    };
    assert!(
        message.contains("a terminating pod on the nominated node"),
        "{message}"
    );
    scheduler.delete_pod(&PodKey::of(&running("low", "a", |_| {})));
    refusal(&mut scheduler, &pinned("other", "a", prioritised(0, "4")));
    assert_eq!(scheduler.next(at(1)).expect("a turn").0.verdict, bind("a"));
}

#[test]
fn a_nominated_pod_takes_another_node_when_that_is_free_first() {
    let mut scheduler = full("a", &[("low", 0, "4")]);
    let pod = pod_of("p", prioritised(10, "4"));
    preempts(&mut scheduler, &pod);
    scheduler.put_node(&node("b"));
    assert_eq!(scheduler.next(at(1)).expect("a turn").0.verdict, bind("b"));
    let next = pinned("next", "a", prioritised(0, "1"));
    refusal(&mut scheduler, &next);
    scheduler.delete_pod(&PodKey::of(&running("low", "a", |_| {})));
    assert_eq!(scheduler.next(at(2)).expect("a turn").0.verdict, bind("a"));
}
