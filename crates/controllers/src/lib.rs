//! The controllers of a cluster: thin shells over the decisions in `plan`, one a file, run together by one driver.
//!
//! A shell listens to reflectors (one a kind, shared by all shells of the process), feeds what it hears to its plan, and executes
//! the actions that come out, a bounded number at a time. It never reads back what it wrote: that arrives by the watch. They see
//! nothing but the Kubernetes API, through a [`kube::Client`], so they run in the API server's process and anywhere else.
//!
//! Each loop waits with a `biased` select, rarest first: what is rare cannot starve what is frequent, and a simulation replays.

mod certificates;
mod cluster_role;
mod daemon_set;
mod discovery;
mod disruption;
mod driver;
mod endpoint_slice;
mod endpoint_writes;
mod endpoints;
mod event_ttl;
mod flight;
mod garbage_collector;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod pod_gc;
pub mod recorder;
pub mod resource;
mod scheduler;
mod service_account;
mod token_cleaner;

use std::sync::Arc;
use std::time::Duration;

use api::view::{
    ControllerRevisionView, DaemonSetView, EndpointSliceView, EndpointsView, LeaseView, NamespaceView,
    NodeView, PodDisruptionBudgetView, PodView, ServiceView,
};
use clock::Clock;
use reflector::request::Api;
use reflector::{Reflector, Watched};
use tokio_util::sync::CancellationToken;

pub use self::certificates::{Sign, Signer};
use self::driver::Driver;
pub use self::driver::{Status, TaskStatus};
use self::recorder::Recorder;
use self::resource::Resource;

/// What runs, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// How DaemonSets are run (bursts).
    pub fleet: plan::fleet::Options,
    /// Whether pods are scheduled. Without it someone else binds them.
    pub scheduler: bool,
    /// Whether anything else is done. Without it this is a scheduler alone.
    pub controllers: bool,
    /// The ranges from which nodes get theirs, at most one of each family. Without any, nodes get none.
    pub cluster_ranges: Vec<plan::node_ipam::ClusterRange>,
    /// How long nodes may be silent.
    pub node_lifecycle: plan::node_lifecycle::Limits,
    /// The certificate (PEM) by which pods trust the API server, for every namespace's `kube-root-ca.crt`.
    pub root_ca: Option<Arc<str>>,
    /// How client certificates are issued; without it nobody answers CertificateSigningRequests.
    pub signer: Option<Signer>,
    /// How long Events are kept.
    pub event_ttl: Duration,
    /// What time it is.
    pub clock: Clock,
    /// Where to read what each task last did.
    pub status: Status,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            fleet: plan::fleet::Options::default(),
            scheduler: true,
            controllers: true,
            cluster_ranges: Vec::new(),
            node_lifecycle: plan::node_lifecycle::Limits::default(),
            root_ca: None,
            signer: None,
            event_ttl: Duration::from_secs(3600),
            clock: Clock::system(),
            status: Status::default(),
        }
    }
}

/// What every shell works with. Cheap to clone.
#[derive(Clone)]
struct Context {
    api: Api,
    clock: Clock,
    recorder: Recorder,
    pods: Reflector<PodView>,
    nodes: Reflector<NodeView>,
    daemon_sets: Reflector<DaemonSetView>,
    revisions: Reflector<ControllerRevisionView>,
    leases: Reflector<LeaseView>,
    namespaces: Reflector<NamespaceView>,
    budgets: Reflector<PodDisruptionBudgetView>,
    services: Reflector<ServiceView>,
    endpoint_slices: Reflector<EndpointSliceView>,
    endpoints: Reflector<EndpointsView>,
}

/// Runs all controllers over `client` until `shutdown`.
pub async fn run(client: kube::Client, options: Options, shutdown: CancellationToken) {
    let (recorder, writer) = recorder::recorder();
    let context = Context {
        api: Api::new(client),
        clock: options.clock.clone(),
        recorder,
        pods: Reflector::new(),
        nodes: Reflector::new(),
        daemon_sets: Reflector::new(),
        revisions: Reflector::new(),
        leases: Reflector::new(),
        namespaces: Reflector::new(),
        budgets: Reflector::new(),
        services: Reflector::new(),
        endpoint_slices: Reflector::new(),
        endpoints: Reflector::new(),
    };
    let mut driver = Driver::new(options.status.clone(), options.clock.clone());
    let (api, clock) = (context.api.clone(), context.clock.clone());
    driver.add("events", move || {
        let (writer, api, clock) = (writer.clone(), api.clone(), clock.clone());
        async move {
            writer.run(api, clock).await;
            Ok(())
        }
    });
    // What the scheduler looks at, too.
    reflect(&mut driver, "pods", &context, &context.pods, Resource::pods());
    reflect(&mut driver, "nodes", &context, &context.nodes, Resource::nodes());
    reflect(
        &mut driver,
        "namespaces",
        &context,
        &context.namespaces,
        Resource::namespaces(),
    );
    reflect(
        &mut driver,
        "poddisruptionbudgets",
        &context,
        &context.budgets,
        Resource::pod_disruption_budgets(),
    );
    add_shells(&mut driver, &context, options);
    driver.run(shutdown).await;
}

fn reflect<V: Watched>(
    driver: &mut Driver,
    name: &'static str,
    context: &Context,
    reflector: &Reflector<V>,
    resource: Resource,
) {
    let (api, reflector) = (context.api.clone(), reflector.clone());
    driver.add(name, move || {
        let fed = reflector.clone().run(api.clone(), resource.path(), None);
        async move {
            fed.await;
            Ok(())
        }
    });
}

fn add_shells(driver: &mut Driver, context: &Context, options: Options) {
    let Options {
        fleet,
        scheduler,
        controllers,
        cluster_ranges,
        node_lifecycle,
        root_ca,
        signer,
        event_ttl,
        clock: _,
        status,
    } = options;
    if scheduler {
        let c = context.clone();
        driver.add("scheduler", move || scheduler::run(c.clone()));
    }
    if !controllers {
        return;
    }
    reflect(
        driver,
        "daemonsets",
        context,
        &context.daemon_sets,
        Resource::daemon_sets(),
    );
    reflect(
        driver,
        "controllerrevisions",
        context,
        &context.revisions,
        Resource::controller_revisions(),
    );
    reflect(driver, "leases", context, &context.leases, Resource::leases());
    reflect(
        driver,
        "services",
        context,
        &context.services,
        Resource::services(),
    );
    reflect(
        driver,
        "endpointslices",
        context,
        &context.endpoint_slices,
        Resource::endpoint_slices(),
    );
    reflect(
        driver,
        "endpoints",
        context,
        &context.endpoints,
        Resource::endpoints(),
    );
    let c = context.clone();
    driver.add("daemonset-controller", move || {
        daemon_set::run(c.clone(), fleet, status.clone())
    });
    let c = context.clone();
    driver.add("node-lifecycle-controller", move || {
        node_lifecycle::run(c.clone(), node_lifecycle)
    });
    if !cluster_ranges.is_empty() {
        let c = context.clone();
        driver.add("node-ipam-controller", move || {
            node_ipam::run(c.clone(), cluster_ranges.clone())
        });
    }
    let c = context.clone();
    driver.add("garbage-collector-controller", move || {
        garbage_collector::run(c.clone())
    });
    let c = context.clone();
    driver.add("pod-garbage-collector-controller", move || pod_gc::run(c.clone()));
    let c = context.clone();
    driver.add("disruption-controller", move || disruption::run(c.clone()));
    let c = context.clone();
    driver.add("endpointslice-controller", move || endpoint_slice::run(c.clone()));
    let c = context.clone();
    driver.add("endpoint-controller", move || endpoints::run(c.clone()));
    let c = context.clone();
    driver.add("namespace-controller", move || namespace::run(c.clone()));
    let c = context.clone();
    driver.add("serviceaccount-controller", move || {
        service_account::run(c.clone(), root_ca.clone())
    });
    let c = context.clone();
    driver.add("clusterrole-aggregation-controller", move || {
        cluster_role::run(c.clone())
    });
    if let Some(signer) = signer {
        let c = context.clone();
        driver.add("token-cleaner-controller", move || token_cleaner::run(c.clone()));
        let c = context.clone();
        driver.add("certificates-controller", move || {
            certificates::run(c.clone(), signer.clone())
        });
    }
    let c = context.clone();
    driver.add("event-ttl-controller", move || {
        event_ttl::run(c.clone(), event_ttl)
    });
}
