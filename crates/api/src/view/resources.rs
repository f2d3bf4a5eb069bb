//! Amounts of resources, in the integers that fitting compares.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use schema::quantity::Quantity;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::share::shared;

/// A resource list (`allocatable`, `requests`) as integers.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Resources {
    /// Processor time in thousandths of a core.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Local storage in bytes.
    pub ephemeral_storage: i64,
    /// How many pods; only nodes have it.
    pub pods: i64,
    /// Any other resource (huge pages, devices) by name, in whole units, sorted.
    pub other: Box<[(Arc<str>, i64)]>,
}

impl Resources {
    /// The amount of the resource `name`, in the unit that this struct keeps for it.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu_milli,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            "pods" => self.pods,
            _ => self
                .other
                .iter()
                .find(|(present, _)| **present == *name)
                .map_or(0, |(_, amount)| *amount),
        }
    }

    /// The sum, resource by resource.
    pub fn plus(&self, more: &Resources) -> Resources {
        self.merged(more, i64::saturating_add)
    }

    /// The greater of the two, resource by resource.
    pub fn max(&self, other: &Resources) -> Resources {
        self.merged(other, i64::max)
    }

    fn merged(&self, with: &Resources, join: fn(i64, i64) -> i64) -> Resources {
        let mut other: BTreeMap<Arc<str>, i64> = self.other.iter().cloned().collect();
        for (name, amount) in &with.other {
            other
                .entry(name.clone())
                .and_modify(|present| *present = join(*present, *amount))
                .or_insert(*amount);
        }
        Resources {
            cpu_milli: join(self.cpu_milli, with.cpu_milli),
            memory: join(self.memory, with.memory),
            ephemeral_storage: join(self.ephemeral_storage, with.ephemeral_storage),
            pods: join(self.pods, with.pods),
            other: other.into_iter().collect(),
        }
    }

    /// Puts the resources that `over` names in the place of these.
    pub(super) fn overridden_by(&self, over: &Resources) -> Resources {
        let pick = |own: i64, over: i64| if over != 0 { over } else { own };
        self.merged(over, pick)
    }
}

/// Reads one amount in the unit of `name`; what cannot be read is nothing.
fn amount(name: &str, value: &Value) -> i64 {
    let Ok(quantity) = Quantity::from_value(value) else {
        return 0;
    };
    match name {
        "cpu" => quantity.milli(),
        _ => quantity.value(),
    }
}

impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amounts: BTreeMap<Cow<'de, str>, Value> = super::nullable(deserializer)?;
        let mut resources = Resources::default();
        let mut other = Vec::new();
        for (name, value) in &amounts {
            let amount = amount(name, value);
            match &**name {
                "cpu" => resources.cpu_milli = amount,
                "memory" => resources.memory = amount,
                "ephemeral-storage" => resources.ephemeral_storage = amount,
                "pods" => resources.pods = amount,
                _ => other.push((shared(name), amount)),
            }
        }
        resources.other = other.into();
        Ok(resources)
    }
}
