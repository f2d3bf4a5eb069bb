//! Random clusters, checked with rules restated over plain lists.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Requirements on a node, or on the pods beside it.
#[derive(Clone, Debug, Default)]
struct Want {
    app: usize,
    cpu: i64,
    priority: i32,
    pin: Option<usize>,
    port: bool,
    tolerant: bool,
    /// The app that must not be in its zone.
    avoids: Option<usize>,
    /// The app that must be in its zone.
    needs: Option<usize>,
    /// Whether its app must be spread over zones.
    spread: bool,
}

#[derive(Clone, Debug)]
struct Machine {
    cpu: i64,
    zone: usize,
    tainted: bool,
}

/// The cluster as plain lists, to check against.
#[derive(Clone, Default)]
struct World {
    nodes: BTreeMap<String, Machine>,
    wants: BTreeMap<String, Want>,
    /// Nodes of pods, according to the decisions.
    placed: BTreeMap<String, String>,
    /// Preempted pods.
    going: BTreeSet<String>,
}

impl World {
    fn on(&self, node: &str) -> Vec<&str> {
        let there = self.placed.iter().filter(|(_, at)| *at == node);
        there.map(|(pod, _)| pod.as_str()).collect()
    }

    /// The zones of the pods that match `which`, if their node exists.
    fn zones(&self, which: impl Fn(&Want) -> bool) -> Vec<usize> {
        let pods = self.placed.iter().filter(|(pod, _)| which(&self.wants[*pod]));
        pods.filter_map(|(_, node)| self.nodes.get(node))
            .map(|machine| machine.zone)
            .collect()
    }

    /// The rules, applied to the plain lists.
    fn takes(&self, node: &str, want: &Want) -> bool {
        let Some(machine) = self.nodes.get(node) else {
            return false;
        };
        let others: Vec<&Want> = self.on(node).iter().map(|pod| &self.wants[*pod]).collect();
        let used: i64 = others.iter().map(|other| other.cpu).sum();
        let allowed = |name: &str| want.pin.is_none_or(|pin| name == format!("n{pin}"));
        let zone_has = |which: &dyn Fn(&Want) -> bool| self.zones(which).contains(&machine.zone);
        let company = want.needs.is_none_or(|app| {
            let is_first = self.zones(|other| other.app == app).is_empty() && want.app == app;
            is_first || zone_has(&|other| other.app == app)
        });
        let skew = || {
            let eligible = self.nodes.iter().filter(|(name, _)| allowed(name));
            let places: BTreeSet<usize> = eligible.clone().map(|(_, m)| m.zone).collect();
            let count = |zone: usize| {
                let there = self.placed.iter().filter(|(pod, node)| {
                    self.wants[*pod].app == want.app
                        && allowed(node)
                        && self.nodes.get(*node).is_some_and(|m| m.zone == zone)
                });
                there.count()
            };
            let least = places.iter().map(|zone| count(*zone)).min().unwrap_or(0);
            count(machine.zone) + 1 - least
        };
        allowed(node)
            && (!machine.tainted || want.tolerant)
            && (want.cpu == 0 || used + want.cpu <= machine.cpu)
            && !(want.port && others.iter().any(|other| other.port))
            && company
            && want.avoids.is_none_or(|app| !zone_has(&|other| other.app == app))
            && !zone_has(&|other| other.avoids == Some(want.app))
            && (!want.spread || skew() <= 1)
    }

    fn without(&self, pods: impl IntoIterator<Item = String>) -> World {
        let mut world = self.clone();
        for pod in pods {
            world.placed.remove(&pod);
        }
        world
    }
}

fn machine(name: &str, machine: &Machine) -> Arc<NodeView> {
    node_of(name, |n| {
        n["metadata"]["labels"]["zone"] = format!("z{}", machine.zone).into();
        n["status"]["allocatable"]["cpu"] = machine.cpu.to_string().into();
        if machine.tainted {
            n["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
        }
    })
}

fn wanting(name: &str, want: &Want, node: Option<&str>) -> Arc<PodView> {
    let term = |app: usize| {
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app.to_string()}}}]})
    };
    let change = |p: &mut Value| {
        p["metadata"]["labels"] = json!({"app": want.app.to_string()});
        p["spec"]["priority"] = want.priority.into();
        requests(p, "cpu", &want.cpu.to_string());
        if want.port {
            p["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
        }
        if want.tolerant {
            p["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        }
        if let Some(app) = want.avoids {
            p["spec"]["affinity"]["podAntiAffinity"] = term(app);
        }
        if let Some(app) = want.needs {
            p["spec"]["affinity"]["podAffinity"] = term(app);
        }
        if want.spread {
            p["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": want.app.to_string()}}}]);
        }
        if let Some(node) = node {
            p["spec"]["nodeName"] = node.into();
        }
    };
    match want.pin {
        Some(node) => pinned(name, &format!("n{node}"), change),
        None => pod_of(name, change),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Node(usize, Machine),
    NodeGone(usize),
    Pod(usize, Want),
    PodGone(usize),
    /// Schedules all pods that are ready.
    Turns,
    /// Deletes the preempted pods.
    Reap,
}

fn machines() -> impl Strategy<Value = Machine> {
    (1i64..6, 0usize..3, prop::bool::weighted(0.2)).prop_map(|(cpu, zone, tainted)| Machine {
        cpu,
        zone,
        tainted,
    })
}

/// Half of the pods have no constraints on neighbours.
fn wants() -> impl Strategy<Value = Want> {
    let plain = (
        0usize..3,
        0i64..4,
        0i32..3,
        prop::option::of(0usize..4),
        prop::bool::weighted(0.2),
        any::<bool>(),
    );
    let around = prop_oneof![
        5 => Just((None, None, false)),
        2 => (0usize..3).prop_map(|app| (Some(app), None, false)),
        2 => (0usize..3).prop_map(|app| (None, Some(app), false)),
        1 => Just((None, None, true)),
    ];
    (plain, around).prop_map(
        |((app, cpu, priority, pin, port, tolerant), (avoids, needs, spread))| Want {
            app,
            cpu,
            priority,
            pin,
            port,
            tolerant,
            avoids,
            needs,
            spread,
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0usize..4, machines()).prop_map(|(index, machine)| Step::Node(index, machine)),
        1 => (0usize..4).prop_map(Step::NodeGone),
        8 => (0usize..16, wants()).prop_map(|(index, want)| Step::Pod(index, want)),
        3 => (0usize..16).prop_map(Step::PodGone),
        3 => Just(Step::Turns),
        2 => Just(Step::Reap),
    ];
    proptest::collection::vec(step, 0..50)
}

/// A scheduler together with the plain lists.
#[derive(Default)]
struct Run {
    scheduler: Scheduler,
    world: World,
    seconds: i64,
}

impl Run {
    fn step(&mut self, step: Step) {
        match step {
            Step::Node(index, to) => {
                let name = format!("n{index}");
                self.scheduler.put_node(&machine(&name, &to));
                self.world.nodes.insert(name, to);
            }
            Step::NodeGone(index) => {
                let name = format!("n{index}");
                self.scheduler.delete_node(&name);
                self.world.nodes.remove(&name);
            }
            Step::Pod(index, want) => {
                let name = format!("p{index}");
                if !self.world.wants.contains_key(&name) {
                    self.scheduler.put_pod(&wanting(&name, &want, None));
                    self.world.wants.insert(name, want);
                }
            }
            Step::PodGone(index) => self.remove(&format!("p{index}")),
            Step::Turns => self.turns(),
            Step::Reap => self.reap(),
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(want) = self.world.wants.remove(name) {
            self.scheduler
                .delete_pod(&PodKey::of(&wanting(name, &want, None)));
            self.world.placed.remove(name);
            self.world.going.remove(name);
        }
    }

    fn reap(&mut self) {
        for name in std::mem::take(&mut self.world.going) {
            self.remove(&name);
        }
    }

    fn turns(&mut self) {
        // Longer than the longest backoff. All attempts of a run take less than the five minutes
        // after which every pod is tried again.
        self.seconds += 11;
        while let Some((decision, pod)) = self.scheduler.next(at(self.seconds)) {
            let name = decision.pod.name.to_string();
            let want = self.world.wants[&name].clone();
            match decision.verdict {
                Verdict::Bind { node } => {
                    assert!(
                        self.world.takes(&node, &want),
                        "{name} is bound to {node}, which does not take it"
                    );
                    self.world.placed.insert(name.clone(), node.to_string());
                    self.scheduler.put_pod(&wanting(&name, &want, Some(&node)));
                }
                Verdict::Unschedulable {
                    preemption: Some(preemption),
                    ..
                } => self.check_preemption(&want, &preemption),
                Verdict::Unschedulable { .. } => {
                    let rivals = |node: &str| self.scheduler.nominations.rivals(&pod, node);
                    let free = self
                        .world
                        .nodes
                        .keys()
                        .find(|node| rivals(node).is_empty() && self.world.takes(node, &want));
                    assert_eq!(free, None, "{name} is refused although it would be taken");
                }
            }
        }
    }

    fn check_preemption(&mut self, want: &Want, preemption: &Preemption) {
        let node = preemption.node.to_string();
        let victims = names(preemption);
        for victim in &victims {
            assert!(
                self.world.wants[victim].priority < want.priority,
                "{victim} is not of a lower priority"
            );
            assert_eq!(
                self.world.placed.get(victim),
                Some(&node),
                "{victim} is somewhere else"
            );
        }
        let going = self.world.on(&node).into_iter().map(str::to_owned);
        let going: Vec<String> = going
            .filter(|pod| self.world.going.contains(pod) && self.world.wants[pod].priority < want.priority)
            .collect();
        let without = |spared: Option<&String>| {
            let gone = victims.iter().filter(|v| Some(*v) != spared).cloned();
            self.world.without(gone.chain(going.clone()))
        };
        assert!(
            without(None).takes(&node, want),
            "{want:?} would not fit on {node} without {victims:?} and {going:?}"
        );
        let needless = victims.iter().find(|victim| {
            let fresh = !going.contains(*victim);
            fresh && without(Some(victim)).takes(&node, want)
        });
        let rivals = self.scheduler.nominations.on(&node).len() > 1;
        assert!(needless.is_none() || rivals, "{needless:?} could have stayed");
        self.world.going.extend(victims);
    }
}

fn names(preemption: &Preemption) -> Vec<String> {
    let names = preemption
        .victims
        .iter()
        .map(|victim| victim.meta.name.to_string());
    names.collect()
}

proptest! {
    /// With any events, no pod is bound against the rules, none is refused that fits a node, and
    /// preemption deletes enough pods of lower priority, but not more than needed. In the end, only
    /// pods that fit no node wait.
    #[test]
    fn nobody_waits_for_what_is_there_and_nothing_is_given_twice(steps in steps()) {
        let mut run = Run::default();
        let mut turns = 0;
        for step in steps {
            turns += usize::from(matches!(step, Step::Turns));
            if turns < 15 || !matches!(step, Step::Turns) {
                run.step(step);
            }
        }
        // Each round either places or preempts a pod, or is the last one that changes anything.
        for _ in 0..10 {
            run.turns();
            run.reap();
        }
        let Run { scheduler, world, .. } = run;
        prop_assert_eq!(scheduler.pending() + world.placed.len(), world.wants.len());
        for (name, want) in world.wants.iter().filter(|(name, _)| !world.placed.contains_key(*name)) {
            let pod = wanting(name, want, None);
            let node = world.nodes.keys().find(|node| {
                scheduler.nominations.rivals(&pod, node).is_empty() && world.takes(node, want)
            });
            prop_assert_eq!(node, None, "{} waits although it would be taken", name);
        }
    }

    /// The same nodes and pods, received in any order, give a pod the same verdict.
    #[test]
    fn the_order_in_which_things_are_heard_does_not_matter(
        nodes in proptest::collection::vec(machines(), 4),
        pods in proptest::collection::vec((wants(), 0usize..4), 0..12),
        want in wants(),
        order in Just((0..16usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let hear = |order: &[usize]| {
            let mut scheduler = Scheduler::new();
            for index in order {
                if let Some(to) = nodes.get(*index) {
                    scheduler.put_node(&machine(&format!("n{index}"), to));
                } else if let Some((other, node)) = pods.get(index - nodes.len()) {
                    scheduler.put_pod(&wanting(&format!("p{index}"), other, Some(&format!("n{node}"))));
                }
            }
            scheduler.put_pod(&wanting("new", &want, None));
            scheduler.next(at(0)).expect("a turn").0
        };
        let sorted: Vec<usize> = (0..16).collect();
        prop_assert_eq!(hear(&sorted), hear(&order));
    }

    /// Tentative removals are reverted afterwards.
    #[test]
    fn a_look_leaves_nothing_behind(
        nodes in proptest::collection::vec(machines(), 4),
        pods in proptest::collection::vec((wants(), 0usize..4), 0..12),
        looks in proptest::collection::vec(wants(), 1..4),
        want in wants(),
    ) {
        let hear = |looks: &[Want]| {
            let mut scheduler = Scheduler::new();
            for (index, to) in nodes.iter().enumerate() {
                scheduler.put_node(&machine(&format!("n{index}"), to));
            }
            for (index, (other, node)) in pods.iter().enumerate() {
                scheduler.put_pod(&wanting(&format!("p{index}"), other, Some(&format!("n{node}"))));
            }
            for (index, look) in looks.iter().enumerate() {
                // It preempts no pod and is deleted at once, whatever the verdict.
                let polite = Want { priority: -1, ..look.clone() };
                let pod = wanting(&format!("look{index}"), &polite, None);
                scheduler.put_pod(&pod);
                scheduler.next(at(0)).expect("a turn");
                scheduler.delete_pod(&PodKey::of(&pod));
            }
            scheduler.cursor = "".into();
            scheduler.put_pod(&wanting("new", &want, None));
            scheduler.next(at(0)).expect("a turn").0
        };
        prop_assert_eq!(hear(&[]), hear(&looks));
    }
}
