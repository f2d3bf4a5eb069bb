//! An update that starts the new pod before it ends the old one: the test of "surge pods onto nodes".

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::{FIVE, create, in_a_namespace};
use crate::fleet::{Fleet, PodWatch, condition, daemon_set, image, is_ready, is_terminating, name, node};

const SET: &str = "daemon-set";
/// The original waits ten; what is asked for is the same with two.
const MIN_READY_SECONDS: i64 = 2;

#[test]
fn a_surge_never_leaves_a_node_without_its_daemon() -> Result<()> {
    in_a_namespace(5, &[], |fleet| {
        let created = create(
            fleet,
            &daemon_set(SET, |set| {
                set["spec"]["minReadySeconds"] = MIN_READY_SECONDS.into();
                set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "20%"}});
            }),
        )?;
        fleet.runs_on(SET, &FIVE)?;
        fleet.complete(SET, 5)?;
        assert_eq!(
            created["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"],
            "20%"
        );

        let mut watch = Watched::open(fleet)?;
        fleet.set_image(SET, "registry.example/app:2")?;
        watch.until_all_run("registry.example/app:2", &Disturbance::None)?;
        fleet.complete(SET, 5)?;

        // The second time, the test takes pods away and makes pods unready in the middle of it.
        fleet.set_image(SET, "registry.example/app:3")?;
        watch.until_all_run("registry.example/app:3", &Disturbance::Some(fleet))?;
        fleet.complete(SET, 5)
    })
}

/// What the test does beside the rollout.
enum Disturbance<'a> {
    None,
    Some(&'a Fleet),
}

/// The rollout, and what the test did to it.
struct Watched<'a> {
    watch: PodWatch<'a>,
    /// The pods that the test itself deleted or made unready, with their nodes.
    disturbed: BTreeMap<String, String>,
}

impl<'a> Watched<'a> {
    fn open(fleet: &'a Fleet) -> Result<Self> {
        Ok(Self {
            watch: PodWatch::open(fleet)?,
            disturbed: BTreeMap::new(),
        })
    }

    fn until_all_run(&mut self, wanted: &str, disturbance: &Disturbance<'_>) -> Result<()> {
        loop {
            let live: Vec<&Value> = self
                .watch
                .pods
                .values()
                .filter(|pod| !is_terminating(pod))
                .collect();
            self.check(&live, wanted)?;
            let new = live
                .iter()
                .filter(|pod| image(pod) == wanted && is_ready(pod))
                .count();
            if self.watch.pods.len() == 5 && new == 5 {
                return Ok(());
            }
            if let Disturbance::Some(fleet) = disturbance {
                self.disturb(fleet, wanted)?;
            }
            self.watch.step()?;
        }
    }

    /// At most one live pod of each version on a node; no node without a ready pod but those that the test disturbed; as
    /// many surging nodes as allowed (20% of five is one), beside the disturbed ones.
    fn check(&self, live: &[&Value], wanted: &str) -> Result<()> {
        let mut surging = 0;
        for at in FIVE {
            let here: Vec<&&Value> = live
                .iter()
                .filter(|pod| node(pod) == at || aimed_at(pod, at))
                .collect();
            let new = here.iter().filter(|pod| image(pod) == wanted).count();
            let names = || {
                here.iter()
                    .map(|pod| (name(pod), image(pod).to_owned()))
                    .collect::<Vec<_>>()
            };
            ensure!(new <= 1 && here.len() - new <= 1, "{at} has {:?}", names());
            if self.disturbed.values().any(|node| node == at) {
                continue;
            }
            let ready = live.iter().any(|pod| node(pod) == at && is_ready(pod));
            ensure!(ready, "{at} has no ready pod but {:?}", names());
            if here.len() == 2 {
                surging += 1;
            }
        }
        ensure!(surging <= 1, "{surging} nodes surge at once");
        Ok(())
    }

    /// Once the first new pod is ready: deletes an old pod, and makes another one unready.
    fn disturb(&mut self, fleet: &Fleet, wanted: &str) -> Result<()> {
        let started = self
            .watch
            .pods
            .values()
            .any(|pod| image(pod) == wanted && is_ready(pod));
        if !started || !self.disturbed.is_empty() {
            return Ok(());
        }
        let untouched = |pod: &&Value| {
            let alone = self
                .watch
                .pods
                .values()
                .filter(|other| node(other) == node(pod))
                .count()
                == 1;
            alone && image(pod) != wanted && is_ready(pod) && !is_terminating(pod)
        };
        let mut old = self.watch.pods.values().filter(untouched);
        let (Some(taken), Some(unready)) = (old.next(), old.next()) else {
            bail!("no two nodes are left to be disturbed");
        };
        fleet.api.delete(&fleet.pod_path(&name(taken)), &json!({}))?;
        fleet.make_unready(&name(unready))?;
        self.disturbed = [taken, unready]
            .map(|pod| (name(pod), node(pod).to_owned()))
            .into();
        Ok(())
    }
}

/// Whether an unbound pod was made for this node.
fn aimed_at(pod: &Value, at: &str) -> bool {
    let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    node(pod).is_empty() && terms[0]["matchFields"][0]["values"][0] == at && condition(pod, "Ready").is_none()
}
