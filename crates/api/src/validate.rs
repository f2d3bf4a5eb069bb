//! Validation rules that several kinds share: names, metadata, label selectors, pod specs.
//!
//! Every rule reads a JSON value of the right type, in which fields may be missing. It adds a
//! [`FieldError`](crate::field_error::FieldError) for each fault, in Kubernetes' order and words.

pub(crate) mod affinity;
pub(crate) mod container;
pub(crate) mod field;
pub(crate) mod label_selector;
pub(crate) mod meta;
pub mod name;
pub(crate) mod os;
pub(crate) mod pod_annotations;
pub mod pod_spec;
pub(crate) mod probe;
pub(crate) mod resources;
pub(crate) mod restart;
pub(crate) mod security;
pub(crate) mod taint;
pub(crate) mod volume;
