//! What a node knows of the others: Services, the endpoints behind them, and Nodes.
//!
//! One watch a kind feeds a [`Reflector`] of views. Its readers (routes, names, Services' rules) share the views and ask what changed
//! ([`Reflector::changes`]): the first answer is a whole state, later ones are differences, also after a gap in the watch or a restart of the
//! server. While no server answers, what was last known stays.

use api::view::{EndpointSliceView, NodeNetworkView, ServiceView, View};
use reflector::request::Api;
use reflector::{Reflector, Watched};
use tokio_util::sync::CancellationToken;

/// The copies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Mirror {
    api: Api,
    pub(crate) services: Reflector<ServiceView>,
    pub(crate) slices: Reflector<EndpointSliceView>,
    pub(crate) nodes: Reflector<NodeNetworkView>,
}

impl Mirror {
    /// Copies that are empty until [`Mirror::run`] feeds them.
    pub(crate) fn new(client: kube::Client) -> Self {
        Self {
            api: Api::new(client),
            services: Reflector::new(),
            slices: Reflector::new(),
            nodes: Reflector::new(),
        }
    }

    /// Feeds the copies until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.feed(&self.services) => {}
            () = self.feed(&self.slices) => {}
            () = self.feed(&self.nodes) => {}
        }
    }

    async fn feed<V: View + Watched>(&self, copy: &Reflector<V>) {
        copy.clone()
            .run(self.api.clone(), V::collection_path(), None)
            .await;
    }
}
