use super::*;

fn of_app(app: &'static str) -> impl Fn(&mut Value) {
    move |pod| pod["metadata"]["labels"] = json!({"app": app})
}

fn required(pod: &mut Value, kind: &str, term: Value) {
    pod["spec"]["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([term]);
}

fn term(app: &str) -> Value {
    json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}})
}

fn avoids(name: &str, app: &str) -> Arc<PodView> {
    pod_of(name, |p| required(p, "podAntiAffinity", term(app)))
}

fn needs(name: &str, app: &str) -> Arc<PodView> {
    pod_of(name, |p| required(p, "podAffinity", term(app)))
}

/// Two nodes in zone x, one in y.
fn zones() -> Scheduler {
    with(&[
        labelled("x1", "zone", "x"),
        labelled("x2", "zone", "x"),
        labelled("y1", "zone", "y"),
    ])
}

#[test]
fn a_pod_goes_to_the_zone_of_the_pods_that_it_needs() {
    let mut scheduler = zones();
    scheduler.put_pod(&running("db", "y1", of_app("db")));
    assert_eq!(verdict(&mut scheduler, &needs("p", "db")), bind("y1"));
    assert_eq!(
        refusal(&mut scheduler, &needs("q", "cache")),
        "0/3 nodes are available: 3 node(s) didn't match pod affinity rules. preemption: \
         0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
}

#[test]
fn a_pod_that_needs_its_own_kind_may_be_the_first() {
    let mut scheduler = zones();
    let own = |name: &str| {
        pod_of(name, |p| {
            of_app("web")(p);
            required(p, "podAffinity", term("web"));
        })
    };
    assert_eq!(verdict(&mut scheduler, &own("p")), bind("x1"));
    assert_eq!(verdict(&mut scheduler, &own("q")), bind("x2"));
    assert_eq!(
        verdict(&mut scheduler, &own("r")),
        bind("x1"),
        "never into the other zone"
    );
}

#[test]
fn a_pod_stays_out_of_the_zone_of_the_pods_that_it_avoids() {
    let mut scheduler = zones();
    scheduler.put_pod(&running("db", "x1", of_app("db")));
    assert_eq!(verdict(&mut scheduler, &avoids("p", "db")), bind("y1"));
    scheduler.put_pod(&running("db2", "y1", of_app("db")));
    assert_eq!(
        refusal(&mut scheduler, &avoids("q", "db")),
        "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules. preemption: \
         0/3 nodes are available: 3 No preemption victims found for incoming pod."
    );
}

#[test]
fn a_pod_that_is_avoided_stays_away_too() {
    let mut scheduler = zones();
    assert_eq!(verdict(&mut scheduler, &avoids("lonely", "web")), bind("x1"));
    let web = |name: &str, node: &str| pinned(name, node, of_app("web"));
    assert_eq!(verdict(&mut scheduler, &web("p", "y1")), bind("y1"));
    assert_eq!(
        refusal(&mut scheduler, &web("q", "x2")),
        "0/3 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules, \
         2 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/3 nodes are available: \
         1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    );
    assert_eq!(
        verdict(&mut scheduler, &pinned("r", "x2", of_app("db"))),
        bind("x2")
    );
}

#[test]
fn who_is_refused_for_a_neighbour_is_woken_when_that_goes() {
    let mut scheduler = zones();
    let lonely = avoids("lonely", "web");
    verdict(&mut scheduler, &lonely);
    refusal(&mut scheduler, &pinned("q", "x2", of_app("web")));
    scheduler.delete_pod(&PodKey::of(&lonely));
    assert_eq!(scheduler.next(at(1)).expect("a turn").0.verdict, bind("x2"));
}

#[test]
fn who_needs_a_neighbour_is_woken_when_it_comes() {
    let mut scheduler = zones();
    refusal(&mut scheduler, &needs("p", "db"));
    scheduler.put_pod(&running("other", "y1", of_app("cache")));
    scheduler.next(at(1)).expect("another look");
    scheduler.put_pod(&running("db", "x2", of_app("db")));
    let Verdict::Bind { node } = scheduler.next(at(10)).expect("a turn").0.verdict else {
        panic!("it has company now");
    };
    assert!(node.starts_with('x'), "{node}");
}

#[test]
fn a_relabelled_node_moves_its_pods_to_another_place() {
    let mut scheduler = zones();
    scheduler.put_pod(&running("db", "x1", of_app("db")));
    verdict(&mut scheduler, &avoids("p", "db"));
    scheduler.put_node(&labelled("x1", "zone", "y"));
    let to_y = pod_of("q", |p| {
        required(p, "podAntiAffinity", term("db"));
        p["spec"]["nodeSelector"] = json!({"zone": "y"});
    });
    refusal(&mut scheduler, &to_y);
    assert_eq!(verdict(&mut scheduler, &avoids("r", "db")), bind("x2"));
}

#[test]
fn terms_match_own_named_or_selected_namespaces() {
    let cases = [
        (json!({}), "default"),
        (json!({"namespaces": ["other"]}), "other"),
        (
            json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}),
            "selected",
        ),
    ];
    for (scope, spoken_of) in cases {
        let mut scheduler = zones();
        for namespace in ["default", "other", "selected"] {
            let labels = if namespace == "selected" {
                json!({"team": "a"})
            } else {
                json!({})
            };
            let view = json!({"metadata": {"name": namespace, "labels": labels}});
            scheduler.put_namespace(&serde_json::from_value(view).expect("a namespace"));
        }
        for (namespace, node) in [("default", "x1"), ("other", "x2"), ("selected", "y1")] {
            let node = labelled(node, "zone", namespace);
            scheduler.put_node(&node);
            scheduler.put_pod(&running(namespace, &node.meta.name, |p| {
                of_app("db")(p);
                p["metadata"]["namespace"] = namespace.into();
            }));
        }
        let pod = pod_of("p", |p| {
            let mut term = term("db");
            term.as_object_mut()
                .expect("an object")
                .extend(scope.as_object().expect("an object").clone());
            required(p, "podAffinity", term);
        });
        let Verdict::Bind { node } = verdict(&mut scheduler, &pod) else {
            panic!("{scope}: somebody is spoken of");
        };
        let (_, view) = scheduler.cluster.node(&node).expect("a node");
        assert_eq!(view.meta.labels.get("zone"), Some(spoken_of), "{scope}");
    }
}

#[test]
fn a_namespace_that_gets_the_label_is_spoken_of_from_then_on() {
    let mut scheduler = zones();
    let namespace = |labels: Value| {
        serde_json::from_value(json!({"metadata": {"name": "other", "labels": labels}})).expect("a namespace")
    };
    scheduler.put_namespace(&namespace(json!({})));
    scheduler.put_pod(&running("db", "y1", |p| {
        of_app("db")(p);
        p["metadata"]["namespace"] = "other".into();
    }));
    let pod = pod_of("p", |p| {
        let mut term = term("db");
        term["namespaceSelector"] = json!({"matchLabels": {"team": "a"}});
        required(p, "podAffinity", term);
    });
    refusal(&mut scheduler, &pod);
    scheduler.put_namespace(&namespace(json!({"team": "a"})));
    assert_eq!(scheduler.next(at(1)).expect("a turn").0.verdict, bind("y1"));
}

/// A pod that must be spread over zones.
fn spread(name: &str, change: impl FnOnce(&mut Value)) -> Arc<PodView> {
    pod_of(name, |p| {
        of_app("web")(p);
        let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}});
        change(&mut constraint);
        p["spec"]["topologySpreadConstraints"] = json!([constraint]);
    })
}

#[test]
fn spread_pods_keep_within_the_skew() {
    let mut scheduler = zones();
    scheduler.put_pod(&running("there", "y1", of_app("web")));
    for i in 0..3 {
        verdict(&mut scheduler, &spread(&format!("p{i}"), |_| {}));
    }
    assert_eq!(on(&scheduler, "y1"), 2);
    assert_eq!(on(&scheduler, "x1") + on(&scheduler, "x2"), 2);
}

#[test]
fn a_full_place_holds_the_others_back_and_says_so() {
    let mut scheduler = zones();
    scheduler.put_node(&node("unlabelled"));
    scheduler.put_node(&node_of("y1", |n| {
        n["metadata"]["labels"]["zone"] = "y".into();
        n["status"]["allocatable"]["pods"] = "0".into();
    }));
    verdict(&mut scheduler, &spread("p", |_| {}));
    assert_eq!(
        refusal(&mut scheduler, &spread("q", |_| {})),
        "0/4 nodes are available: 1 Too many pods, \
         1 node(s) didn't match pod topology spread constraints (missing required label), \
         2 node(s) didn't match pod topology spread constraints. preemption: 0/4 nodes are available: \
         1 Preemption is not helpful for scheduling, 3 No preemption victims found for incoming pod."
    );
}

#[test]
fn too_few_places_count_as_an_empty_one() {
    let mut scheduler = zones();
    for i in 0..2 {
        verdict(
            &mut scheduler,
            &spread(&format!("p{i}"), |c| c["minDomains"] = 3.into()),
        );
    }
    refusal(&mut scheduler, &spread("q", |c| c["minDomains"] = 3.into()));
    scheduler.put_node(&labelled("z1", "zone", "z"));
    assert_eq!(scheduler.next(at(1)).expect("a turn").0.verdict, bind("z1"));
}

#[test]
fn nodes_the_pod_cannot_use_are_domains_only_if_requested() {
    // Zone y is tainted, zone z is not selected; both are empty.
    let nodes = [
        labelled("x1", "zone", "x"),
        node_of("y1", |n| {
            n["metadata"]["labels"]["zone"] = "y".into();
            n["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
        }),
        node_of("z1", |n| {
            n["metadata"]["labels"]["zone"] = "z".into();
            n["metadata"]["labels"]["other"] = "yes".into();
        }),
    ];
    let cases = [
        ("Honor", "Honor", true),
        ("Honor", "Ignore", false),
        ("Ignore", "Honor", false),
    ];
    for (affinity, taints, fits) in cases {
        let mut scheduler = with(&nodes);
        scheduler.put_pod(&running("there", "x1", of_app("web")));
        let pod = spread("p", |c| {
            c["nodeAffinityPolicy"] = affinity.into();
            c["nodeTaintsPolicy"] = taints.into();
        });
        let mut pod = (*pod).clone();
        let mut spec = (*pod.spec).clone();
        let selector = pod_of("s", |p| {
            p["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "other", "operator": "DoesNotExist"}]}]}}});
        });
        spec.node_affinity = selector.spec.node_affinity.clone();
        pod.spec = Arc::new(spec);
        let is_bound = matches!(verdict(&mut scheduler, &Arc::new(pod)), Verdict::Bind { .. });
        assert_eq!(is_bound, fits, "affinity {affinity}, taints {taints}");
    }
}

#[test]
fn pods_on_their_way_out_do_not_count_for_the_spread() {
    let mut scheduler = zones();
    scheduler.put_pod(&running("going", "x1", |p| {
        of_app("web")(p);
        p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }));
    scheduler.put_pod(&running("there", "y1", of_app("web")));
    assert!(matches!(
        verdict(&mut scheduler, &spread("p", |_| {})),
        Verdict::Bind { node } if node.starts_with('x')
    ));
}

#[test]
fn only_pods_of_the_same_revision_count_with_match_label_keys() {
    let mut scheduler = zones();
    let of_revision = |pod: &mut Value, hash: &str| {
        pod["metadata"]["labels"] = json!({"app": "web", "hash": hash});
    };
    scheduler.put_pod(&running("old", "x1", |p| of_revision(p, "1")));
    scheduler.put_pod(&running("old2", "x2", |p| of_revision(p, "1")));
    let new = |name: &str, node: &str| {
        pinned(name, node, |p| {
            of_revision(p, "2");
            p["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}},
                "matchLabelKeys": ["hash"], "nodeAffinityPolicy": "Ignore"}]);
        })
    };
    assert_eq!(verdict(&mut scheduler, &new("p", "x1")), bind("x1"));
    refusal(&mut scheduler, &new("q", "x2"));
}

#[test]
fn a_cluster_where_nobody_asks_keeps_no_index() {
    let mut scheduler = zones();
    for i in 0..5 {
        verdict(&mut scheduler, &pinned(&format!("p{i}"), "x1", of_app("web")));
    }
    assert!(scheduler.cluster.neighbours.is_empty());
    let lonely = avoids("lonely", "db");
    verdict(&mut scheduler, &lonely);
    assert!(!scheduler.cluster.neighbours.is_empty());
}
