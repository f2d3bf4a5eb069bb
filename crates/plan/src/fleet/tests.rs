//! Fleet with a model of a cluster: a small API server, a scheduler and kubelets, and late watches.

mod cases;
mod conditions;
mod faults;
mod forecasts;
mod model;
mod properties;
mod rollouts;

pub(super) use model::Cluster;
