//! The verbs of the API, one file for each.

mod converted_list;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod delete_collection;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod list_options;
pub(crate) mod patch;
pub(crate) mod update;
mod verb;
pub(crate) mod watch;

pub(crate) use verb::Verb;
