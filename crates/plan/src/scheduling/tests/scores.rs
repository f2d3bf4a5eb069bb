use super::*;

#[test]
fn a_pod_with_a_choice_goes_where_there_is_most_room() {
    let mut scheduler = with(&[node("a"), node("b")]);
    for i in 0..4 {
        let pod = pod_of(&format!("p{i}"), |p| {
            p["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}})
        });
        verdict(&mut scheduler, &pod);
    }
    assert_eq!((on(&scheduler, "a"), on(&scheduler, "b")), (2, 2));
}

#[test]
fn a_preferred_label_outweighs_a_little_room() {
    let mut scheduler = with(&[
        node("a"),
        node_of("b", |n| n["metadata"]["labels"]["disk"] = "ssd".into()),
    ]);
    let pod = pod_of("p", |p| {
        p["spec"]["affinity"] = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}});
    });
    assert_eq!(verdict(&mut scheduler, &pod), bind("b"));
}

fn tainted(name: &str) -> Arc<NodeView> {
    node_of(name, |n| {
        n["spec"]["taints"] = json!([{"key": "k", "effect": "PreferNoSchedule"}])
    })
}

#[test]
fn a_node_that_would_rather_not_is_taken_last() {
    let mut scheduler = with(&[tainted("a"), node("b")]);
    assert_eq!(verdict(&mut scheduler, &pod_of("p", |_| {})), bind("b"));
    let tolerant = pod_of("q", |p| {
        p["spec"]["tolerations"] = json!([{"key": "k", "operator": "Exists"}])
    });
    assert_eq!(verdict(&mut scheduler, &tolerant), bind("a"));
}

#[test]
fn equal_nodes_take_turns() {
    let mut scheduler = with(&[node("a"), node("b"), node("c")]);
    let names: Vec<_> = (0..3)
        .map(|i| verdict(&mut scheduler, &pod_of(&format!("p{i}"), |_| {})))
        .collect();
    assert_eq!(names, [bind("a"), bind("b"), bind("c")]);
}

#[test]
fn pods_that_are_liked_draw_and_pods_that_are_not_repel() {
    let nodes = [labelled("a", "zone", "x"), labelled("b", "zone", "y")];
    for (kind, node) in [("podAffinity", "b"), ("podAntiAffinity", "a")] {
        let mut scheduler = with(&nodes);
        scheduler.put_pod(&running("other", "b", |p| {
            p["metadata"]["labels"] = json!({"app": "db"})
        }));
        let pod = pod_of("p", |p| {
            p["spec"]["affinity"][kind]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([
                {"weight": 100, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}}]);
        });
        assert_eq!(verdict(&mut scheduler, &pod), bind(node), "{kind}");
    }
}

#[test]
fn a_wish_to_be_spread_is_heeded_where_it_can_be() {
    let mut scheduler = with(&[
        labelled("a", "zone", "x"),
        labelled("b", "zone", "x"),
        labelled("c", "zone", "y"),
        node("d"),
    ]);
    let wishful = |name: &str| {
        pod_of(name, |p| {
            p["metadata"]["labels"] = json!({"app": "web"});
            p["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "zone",
                "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "web"}}}]);
        })
    };
    scheduler.put_pod(&running("there", "a", |p| {
        p["metadata"]["labels"] = json!({"app": "web"})
    }));
    assert_eq!(verdict(&mut scheduler, &wishful("p")), bind("c"));
}
