//! Fleet against a model of a cluster: an API server, a scheduler and kubelets in a few lines, and watches that lag.

mod cases;
mod conditions;
mod faults;
mod forecasts;
mod model;
mod properties;
mod rollouts;

pub(super) use model::Cluster;
