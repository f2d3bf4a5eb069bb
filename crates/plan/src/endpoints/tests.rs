//! Endpoints of Services: single cases, then properties.

mod cluster;
mod legacy;
mod properties;
mod slices;
