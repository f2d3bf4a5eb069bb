//! A simulated cluster in one thread with its own time, and its faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use apiserver::{InMemory, User};
use clock::Clock;
use http::Request;
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use plan::daemonset::Aim;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::end;
use crate::history::{CONTROLLERS, History, SCHEDULER};
use crate::network::{Fault, Network};
use crate::rng::Rng;
use crate::workload::{self, Customs, Deed};

/// Time of the start.
const BEGIN: &str = "2026-01-01T00:00:00Z";

/// Most machines.
const MACHINES: u32 = 5;

/// Time in which a cluster without faults must converge. The backoff of failed pods is up to 15
/// minutes.
const CONVERGES_WITHIN: Duration = Duration::from_secs(40 * 60);

/// Time after which no activity may remain. The scheduler retries unschedulable pods every five
/// minutes.
const SETTLES_WITHIN: Duration = Duration::from_secs(5 * 60 + 30);

/// Time without any write after that.
const QUIET_FOR: Duration = Duration::from_secs(6 * 60);

/// Largest difference of a component's clock, in milliseconds.
const SKEW_MAX_MS: u64 = 5_000;

/// Result of a run.
#[derive(Debug)]
pub(crate) struct Report {
    /// Equal for two runs of a seed.
    pub(crate) hash: u64,
    pub(crate) writes: u64,
    pub(crate) violations: Vec<String>,
    /// The events of the run, one line each.
    pub(crate) lines: Vec<String>,
    /// Kinds of faults of the seed.
    pub(crate) faults: BTreeSet<Fault>,
}

/// Runs a seed, without the faults in `off`.
pub(crate) fn run(seed: u64, off: &BTreeSet<Fault>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut world = World::build(seed, off).await;
        let begun = world.live().await;
        let mut state = world.network.lock();
        let history = &mut state.history;
        if let Err(what) = begun {
            history.violations.push(what);
        }
        Report {
            hash: history.hash(),
            writes: history.writes,
            violations: history.violations.clone(),
            lines: history.take_lines(),
            faults: world.faults.clone(),
        }
    })
}

/// Next step of the run.
enum Coming {
    Deed,
    Fault(Fault),
    NodeBack(u32),
    ServerBack(Box<InMemory>),
}

struct World {
    rng: Rng,
    /// Random numbers for faults; the actions of users have their own.
    fate: Rng,
    customs: Customs,
    network: Network,
    clock: Clock,
    people: kube::Client,
    faults: BTreeSet<Fault>,
    coming: BTreeMap<(Instant, u64), Coming>,
    count: u64,
    machines: Vec<Option<JoinHandle<()>>>,
    controllers: Option<(JoinHandle<()>, controllers::Status)>,
    scheduler: Option<(JoinHandle<()>, controllers::Status)>,
    default_uid: String,
}

impl World {
    async fn build(seed: u64, off: &BTreeSet<Fault>) -> World {
        let mut rng = Rng::new(seed);
        let (mut fate, wire) = (rng.fork(), rng.fork());
        let clock = Clock::simulated(BEGIN.parse::<Timestamp>().expect("a time"));
        let server = InMemory::start(clock.clone(), rng.word())
            .await
            .expect("the server starts");
        let history = History::new(server.changes(), clock.clone());
        let network = Network::new(wire, server, history);
        let customs = Customs::draw(&mut rng);
        // Each seed has only some faults, because all at once would hide interactions between two
        // of them.
        let share = *fate.pick(&[2, 10, 50]);
        let faults: BTreeSet<Fault> = Fault::ALL
            .into_iter()
            .filter(|_| fate.per_mille(400))
            .filter(|fault| !off.contains(fault))
            .collect();
        {
            let mut state = network.lock();
            state.share = share;
            state.on = faults.clone();
        }
        let people = network.sound_client("people");
        let mut world = World {
            rng,
            fate,
            customs,
            people,
            network,
            clock,
            faults,
            coming: BTreeMap::new(),
            count: 0,
            machines: (0..MACHINES).map(|_| None).collect(),
            controllers: None,
            scheduler: None,
            default_uid: String::new(),
        };
        let namespace = world.ask("GET", "/api/v1/namespaces/default", &Value::Null).await;
        world.default_uid = namespace["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        world
    }

    /// Runs everything from the first start to the final check.
    async fn live(&mut self) -> Result<(), String> {
        self.start_controllers();
        self.start_scheduler();
        for machine in 0..MACHINES - 1 {
            self.start_machine(machine);
        }
        self.trouble().await?;
        self.mend().await;
        self.converge().await?;
        self.rest().await
    }

    /// Users change the cluster while faults occur.
    async fn trouble(&mut self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(self.rng.between(120, 600));
        self.plan(Coming::Deed, 0, 1_000);
        for fault in self.faults.clone() {
            if is_of_world(fault) {
                self.plan(Coming::Fault(fault), 0, 120_000);
            }
        }
        while let Some(((at, _), coming)) = self.coming.pop_first() {
            if at > end {
                self.coming.insert((at, 0), coming);
                break;
            }
            sleep_until(at).await;
            self.sound()?;
            self.comes(coming).await;
        }
        Ok(())
    }

    fn plan(&mut self, coming: Coming, from_ms: u64, to_ms: u64) {
        let after = Duration::from_millis(self.fate.between(from_ms, to_ms));
        self.count += 1;
        self.coming.insert((Instant::now() + after, self.count), coming);
    }

    async fn comes(&mut self, coming: Coming) {
        match coming {
            Coming::Deed => {
                self.deed().await;
                self.plan(Coming::Deed, 0, 20_000);
            }
            Coming::NodeBack(machine) => self.start_machine(machine),
            Coming::ServerBack(server) => self.server_back(*server).await,
            Coming::Fault(fault) => {
                match fault {
                    Fault::ControllersRestart => self.start_controllers(),
                    Fault::SchedulerRestart => self.start_scheduler(),
                    Fault::ServerRestart => {
                        if let Some(server) = self.network.server_down() {
                            self.plan(Coming::ServerBack(Box::new(server)), 0, 15_000);
                        }
                    }
                    Fault::NodeFlap => {
                        let machine = u32::try_from(self.fate.below(MACHINES.into())).unwrap_or(0);
                        if self.stop_machine(machine) {
                            self.plan(Coming::NodeBack(machine), 0, 150_000);
                        }
                    }
                    _ => {}
                }
                self.plan(Coming::Fault(fault), 1, 180_000);
            }
        }
    }

    async fn deed(&mut self) {
        let deed = {
            let state = self.network.lock();
            workload::next(
                &mut self.rng,
                self.customs,
                &state.history.picture,
                MACHINES,
                &self.default_uid,
            )
        };
        match deed {
            Deed::Ask(request) => {
                self.network.say(
                    "people",
                    &format!("{} {} {}", request.method, request.path, request.body),
                );
                self.ask(request.method, &request.path, &request.body).await;
            }
            Deed::Join(machine) => self.start_machine(machine),
            Deed::Leave(machine) => {
                self.stop_machine(machine);
                let path = format!("/api/v1/nodes/node-{machine}");
                self.ask("DELETE", &path, &Value::Null).await;
            }
        }
    }

    /// Ends the faults and starts everything that is down.
    async fn mend(&mut self) {
        self.network.say("world", "the faults end");
        self.network.lock().on = BTreeSet::new();
        for ((_, _), coming) in std::mem::take(&mut self.coming) {
            match coming {
                Coming::NodeBack(machine) => self.start_machine(machine),
                Coming::ServerBack(server) => self.server_back(*server).await,
                Coming::Deed | Coming::Fault(_) => {}
            }
        }
        let present: Vec<u32> = {
            let state = self.network.lock();
            let there = |machine: &u32| {
                let name = format!("node-{machine}");
                state
                    .history
                    .picture
                    .present_nodes()
                    .any(|(node, _)| *node == name)
            };
            (0..MACHINES).filter(there).collect()
        };
        for machine in present {
            self.start_machine(machine);
        }
    }

    async fn converge(&mut self) -> Result<(), String> {
        let patience = Instant::now() + CONVERGES_WITHIN;
        loop {
            self.sound()?;
            let faults = self.faults_of_the_end();
            if faults.is_empty() {
                return Ok(());
            }
            if Instant::now() > patience {
                return Err(format!(
                    "every run ends in the desired state: {}",
                    faults.join("; ")
                ));
            }
            sleep(Duration::from_secs(5)).await;
        }
    }

    /// Checks that there are no more writes.
    async fn rest(&mut self) -> Result<(), String> {
        // Some writes may still come: a delayed Event, a status in its second of grace, or the
        // scheduler's retry of an unschedulable pod.
        sleep(SETTLES_WITHIN).await;
        let writes = self.network.lock().history.writes;
        self.network.say("world", "quiet begins");
        sleep(QUIET_FOR).await;
        self.sound()?;
        let more = self.network.lock().history.writes - writes;
        if more > 0 {
            return Err(format!("what has come to rest is quiet: {more} writes"));
        }
        match &self.faults_of_the_end()[..] {
            [] => Ok(()),
            faults => Err(format!("the desired state lasts: {}", faults.join("; "))),
        }
    }

    fn faults_of_the_end(&self) -> Vec<String> {
        let state = self.network.lock();
        end::faults(&state.history.picture, state.history.controllers_clock.now())
    }

    /// Checks that no property is violated so far.
    fn sound(&self) -> Result<(), String> {
        for (_, status) in self.controllers.iter().chain(&self.scheduler) {
            for (task, status) in status.all() {
                if let Some(error) = status
                    .last_error
                    .as_ref()
                    .filter(|error| error.contains("panicked"))
                {
                    return Err(format!("no task panics: {task}: {error}"));
                }
            }
        }
        match self.network.lock().history.violations.is_empty() {
            true => Ok(()),
            false => Err("see above".to_owned()),
        }
    }

    fn skewed(&mut self) -> Clock {
        if !self.faults.contains(&Fault::Skew) {
            return self.clock.clone();
        }
        let ahead = self.fate.between(0, 2 * SKEW_MAX_MS);
        let ahead = i64::try_from(ahead).unwrap_or(0) - i64::try_from(SKEW_MAX_MS).unwrap_or(0);
        self.clock.skewed(SignedDuration::from_millis(ahead))
    }

    fn start_controllers(&mut self) {
        if let Some((old, _)) = self.controllers.take() {
            old.abort();
        }
        self.network.say(CONTROLLERS, "start");
        self.network.controllers_start();
        let clock = self.skewed();
        self.network.lock().history.controllers_clock = clock.clone();
        let aim = match self.customs.direct {
            true => Aim::NodeName,
            false => Aim::default(),
        };
        let options = controllers::Options {
            fleet: plan::fleet::Options {
                aim,
                ..plan::fleet::Options::default()
            },
            scheduler: false,
            clock,
            ..controllers::Options::default()
        };
        let user = User::component("system:kube-controller-manager");
        self.controllers = Some(self.start(CONTROLLERS, user, options));
    }

    fn start_scheduler(&mut self) {
        if let Some((old, _)) = self.scheduler.take() {
            old.abort();
        }
        self.network.say(SCHEDULER, "starts");
        let options = controllers::Options {
            controllers: false,
            clock: self.skewed(),
            ..controllers::Options::default()
        };
        self.scheduler = Some(self.start(SCHEDULER, User::component("system:kube-scheduler"), options));
    }

    fn start(
        &self,
        name: &str,
        user: User,
        options: controllers::Options,
    ) -> (JoinHandle<()>, controllers::Status) {
        let status = options.status.clone();
        let client = self.network.client(name, user);
        let run = controllers::run(client, options, CancellationToken::new());
        (tokio::spawn(run), status)
    }

    fn start_machine(&mut self, machine: u32) {
        let slot = &self.machines[machine as usize];
        if slot.as_ref().is_some_and(|handle| !handle.is_finished()) {
            return;
        }
        let name = format!("node-{machine}");
        self.network.say(&name, "starts");
        let options = simulate::Options {
            start: machine,
            start_up: Duration::from_millis(self.fate.between(0, 3_000)),
            clock: self.skewed(),
            // These controllers assign no pod ranges.
            pod_range: "10.0.0.0/8".parse().ok(),
            ..simulate::Options::default()
        };
        let client = self.network.client(&name, User::node(&name));
        let network = self.network.clone();
        self.machines[machine as usize] = Some(tokio::spawn(async move {
            // Restart after a failed registration, like a service manager.
            loop {
                let run = simulate::run(client.clone(), options.clone(), CancellationToken::new());
                if let Err(error) = run.await {
                    network.say(&name, &format!("{error}"));
                }
                sleep(Duration::from_secs(10)).await;
            }
        }));
    }

    /// Stops a machine. Returns whether it was running.
    fn stop_machine(&mut self, machine: u32) -> bool {
        let Some(handle) = self.machines[machine as usize].take() else {
            return false;
        };
        handle.abort();
        self.network.say(&format!("node-{machine}"), "is switched off");
        true
    }

    async fn server_back(&mut self, mut server: InMemory) {
        server.restart().await.expect("the server starts again");
        self.network.server_up(server);
    }

    /// Sends a request to the server, if it is up. Returns the body of any response.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let media_type = match method {
            "PATCH" if path.ends_with("/status") => "application/strategic-merge-patch+json",
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, media_type)
            .body(Body::from(body))
            .expect("a request");
        let Ok(answer) = self.people.send(request).await else {
            return Value::Null;
        };
        let code = answer.status();
        let bytes = match answer.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return Value::Null,
        };
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if !code.is_success() {
            self.network
                .say("people", &format!("{code}: {}", value["message"]));
        }
        value
    }
}

/// Returns whether the world plans a fault; the network draws the others.
fn is_of_world(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::ServerRestart | Fault::ControllersRestart | Fault::SchedulerRestart | Fault::NodeFlap
    )
}
