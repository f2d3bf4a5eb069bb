//! Cache of parsed objects, for the few objects that are needed for every new pod.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use api::kinds::Kind;
use api::status::Status;
use serde_json::Value;
use store::{Key, Revision};

use crate::limits::PARSED_MAX;
use crate::objects::{self, Object};

/// Parsed objects, each with the revision that was parsed.
#[derive(Default)]
pub(crate) struct Parsed {
    values: RwLock<HashMap<Key, (Revision, Arc<Value>)>>,
}

impl Parsed {
    /// Returns the object as a value, parsed only if its revision is not cached.
    pub(crate) fn value(&self, kind: &Kind, object: &Object) -> Result<Arc<Value>, Status> {
        let values = self.values.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((revision, value)) = values.get(&object.key)
            && *revision == object.revision
        {
            return Ok(value.clone());
        }
        drop(values);
        let value = Arc::new(objects::value(kind, &object.body)?);
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        if values.len() >= PARSED_MAX {
            values.clear();
        }
        values.insert(object.key.clone(), (object.revision, value.clone()));
        Ok(value)
    }
}
