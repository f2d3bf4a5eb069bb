//! The controllers of a cluster: thin shells for the decisions in `plan`, one in each file, run by
//! one driver.
//!
//! A shell passes watch events from reflectors (one for each kind, shared by all shells) to its
//! plan, and carries out a bounded number of the resulting actions at a time. It never reads back
//! its own writes, because the watch shows them. The shells use only the Kubernetes API through a
//! [`kube::Client`], so they run in the API server's process or anywhere else.
//!
//! Each loop waits with a `biased` select, the rarest event first: a rare event cannot starve a
//! frequent one, and simulations are reproducible.

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

/// Options of the controllers.
#[derive(Clone, Debug)]
pub struct Options {
    /// Options of the DaemonSet controller.
    pub fleet: plan::fleet::Options,
    /// Whether to run the scheduler. If false, another scheduler must bind pods.
    pub scheduler: bool,
    /// Whether to run the other controllers. If false, only the scheduler runs.
    pub controllers: bool,
    /// Ranges from which nodes get pod ranges, at most one of each family. If empty, nodes get
    /// none.
    pub cluster_ranges: Vec<plan::node_ipam::ClusterRange>,
    /// Timeouts and eviction rates of nodes.
    pub node_lifecycle: plan::node_lifecycle::Limits,
    /// The CA certificate (PEM) of the API server, for every namespace's `kube-root-ca.crt`.
    pub root_ca: Option<Arc<str>>,
    /// Issues client certificates. If `None`, CertificateSigningRequests are not handled.
    pub signer: Option<Signer>,
    /// TTL of Events.
    pub event_ttl: Duration,
    /// Source of the time.
    pub clock: Clock,
    /// Receives the status of all tasks.
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

/// Shared state of all shells. Cheap to clone.
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
    // Kinds that the scheduler needs too.
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
        let reflecting = reflector.clone().run(api.clone(), resource.path(), None);
        async move {
            reflecting.await;
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
