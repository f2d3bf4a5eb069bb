use super::*;

#[test]
fn a_pinned_pod_goes_to_its_node() {
    let mut scheduler = with(&[node("a"), node("b"), node("c")]);
    assert_eq!(verdict(&mut scheduler, &pinned("p", "b", |_| {})), bind("b"));
}

#[test]
fn pinned_pod_reports_shortage_of_its_node_only() {
    let mut scheduler = with(&[node("a"), node("b"), node("c")]);
    let eater = pod_of("eater", |p| {
        p["spec"]["nodeName"] = "b".into();
        p["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "15Gi"}});
    });
    scheduler.put_pod(&eater);
    let hungry = pinned("p", "b", |p| {
        p["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "2Gi"}})
    });
    assert_eq!(
        refusal(&mut scheduler, &hungry),
        "0/3 nodes are available: 1 Insufficient memory, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: \
         0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    );
}

#[test]
fn what_a_node_never_had_no_preemption_wins() {
    let mut scheduler = with(&[node("a")]);
    let huge = pinned("p", "a", |p| {
        p["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "5"}})
    });
    assert_eq!(
        refusal(&mut scheduler, &huge),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 Preemption is not helpful for scheduling."
    );
}

#[test]
fn a_pod_that_never_preempts_says_so() {
    let mut scheduler = with(&[node("a")]);
    let polite = pinned("p", "a", |p| {
        p["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "5"}});
        p["spec"]["preemptionPolicy"] = "Never".into();
    });
    assert_eq!(
        refusal(&mut scheduler, &polite),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    );
}

#[test]
fn each_filter_has_its_sentence() {
    let cases: [(&str, Arc<NodeView>, Arc<PodView>); 5] = [
        (
            "node(s) were unschedulable",
            node_of("a", |n| n["spec"]["unschedulable"] = true.into()),
            pinned("p", "a", |_| {}),
        ),
        (
            "node(s) had untolerated taint(s)",
            node_of("a", |n| {
                n["spec"]["taints"] = json!([{"key": "gpu", "value": "true", "effect": "NoSchedule"}])
            }),
            pinned("p", "a", |_| {}),
        ),
        (
            "node(s) didn't match Pod's node affinity/selector",
            node("a"),
            pinned("p", "a", |p| p["spec"]["nodeSelector"] = json!({"disk": "ssd"})),
        ),
        (
            "Too many pods",
            node_of("a", |n| n["status"]["allocatable"]["pods"] = "0".into()),
            pinned("p", "a", |_| {}),
        ),
        (
            "Insufficient example.com/device",
            node("a"),
            pinned("p", "a", |p| {
                p["spec"]["containers"][0]["resources"] = json!({"requests": {"example.com/device": "1"}})
            }),
        ),
    ];
    for (sentence, node, pod) in cases {
        let said = refusal(&mut with(&[node]), &pod);
        assert!(
            said.starts_with(&format!("0/1 nodes are available: 1 {sentence}. ")),
            "{said}"
        );
    }
}

#[test]
fn an_empty_cluster_says_that_there_are_no_nodes() {
    assert_eq!(
        refusal(&mut with(&[]), &pinned("p", "a", |_| {})),
        "no nodes available to schedule pods"
    );
}

#[test]
fn a_cordoned_node_takes_a_pod_that_tolerates_the_cordon() {
    let mut scheduler = with(&[node_of("a", |n| n["spec"]["unschedulable"] = true.into())]);
    let daemon = pinned("p", "a", |p| {
        p["spec"]["tolerations"] = json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}]);
    });
    assert_eq!(verdict(&mut scheduler, &daemon), bind("a"));
}

#[test]
fn a_host_port_is_given_once() {
    let mut scheduler = with(&[node("a")]);
    let port = |name: &str| {
        pinned(name, "a", |p| {
            p["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}])
        })
    };
    assert_eq!(verdict(&mut scheduler, &port("first")), bind("a"));
    let said = refusal(&mut scheduler, &port("second"));
    assert!(
        said.contains("1 node(s) didn't have free ports for the requested pod ports."),
        "{said}"
    );
}

#[test]
fn terms_beside_the_node_s_name_leave_a_choice() {
    let mut scheduler = with(&[
        node("a"),
        node_of("b", |n| n["metadata"]["labels"]["disk"] = "ssd".into()),
    ]);
    let pod = pod_of("p", |p| {
        p["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gone"]}]},
            {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}}});
    });
    assert_eq!(verdict(&mut scheduler, &pod), bind("b"));
}

#[test]
fn nodes_that_no_term_names_are_left_out_of_a_choice_of_few() {
    let mut scheduler = with(&[node("a"), node("b"), node("c")]);
    scheduler.put_pod(&running("eater", "b", |p| requests(p, "cpu", "4")));
    let terms = |names: &[&str]| {
        let terms: Vec<_> = names
            .iter()
            .map(
                |name| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}),
            )
            .collect();
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
    };
    let pod = |name: &str, names: &[&str]| {
        pod_of(name, |p| {
            p["spec"]["affinity"] = terms(names);
            requests(p, "cpu", "3");
        })
    };
    assert_eq!(
        verdict(&mut scheduler, &pod("first", &["b", "c", "gone"])),
        bind("c")
    );
    assert_eq!(
        refusal(&mut scheduler, &pod("second", &["b", "c", "gone"])),
        "0/3 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity], 2 Insufficient cpu. preemption: \
         0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."
    );
}

#[test]
fn a_term_that_names_two_nodes_is_a_conflict() {
    let name = |value: &str| json!({"key": "metadata.name", "operator": "In", "values": [value]});
    let torn = pod_of("p", |p| {
        let term = json!({"matchFields": [name("a"), name("b")]});
        p["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [term, term]}}});
    });
    assert_eq!(
        refusal(&mut with(&[node("a"), node("b")]), &torn),
        "0/2 nodes are available: pod affinity terms conflict. preemption: 0/2 nodes are available: \
         2 Preemption is not helpful for scheduling."
    );
}

#[test]
fn a_host_port_of_one_address_leaves_the_others() {
    let port = |name: &str, address: &str| {
        pinned(name, "a", |p| {
            p["spec"]["containers"][0]["ports"] =
                json!([{"containerPort": 80, "hostPort": 80, "hostIP": address}])
        })
    };
    let mut scheduler = with(&[node("a")]);
    assert_eq!(verdict(&mut scheduler, &port("first", "10.0.0.1")), bind("a"));
    assert_eq!(verdict(&mut scheduler, &port("second", "10.0.0.2")), bind("a"));
    refusal(&mut scheduler, &port("third", "0.0.0.0"));
}

#[test]
fn a_pod_whose_node_is_gone_waits_for_it() {
    let mut scheduler = with(&[node("a"), node("b")]);
    scheduler.delete_node("b");
    let pod = pinned("p", "b", |_| {});
    assert_eq!(
        refusal(&mut scheduler, &pod),
        "0/1 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: \
         0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    scheduler.put_node(&node("b"));
    assert_eq!(scheduler.next(at(1)).expect("a turn").0.verdict, bind("b"));
}
