//! Endpoints of Services: readable cases, then what holds whatever happens.

mod cluster;
mod legacy;
mod properties;
mod slices;
