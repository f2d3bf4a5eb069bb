//! Amounts of resources as integers, which the scheduler compares.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schema::quantity::Quantity;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::share::shared;

/// A resource list (`allocatable`, `requests`) as integers.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Resources {
    /// CPU in millicores.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Ephemeral storage in bytes.
    pub ephemeral_storage: i64,
    /// Number of pods; only nodes have it.
    pub pods: i64,
    /// Other resources (huge pages, devices) by name, in whole units, sorted by name.
    pub other: Box<[(Arc<str>, i64)]>,
}

impl Resources {
    /// Returns the amount of the resource `name`, in the unit of its field.
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

    /// Returns the sum of each resource.
    pub fn plus(&self, more: &Resources) -> Resources {
        self.merged(more, i64::saturating_add)
    }

    /// Returns the maximum of each resource.
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

    /// Returns these resources, with those that are not 0 in `over` replaced by it.
    pub(super) fn overridden_by(&self, over: &Resources) -> Resources {
        let pick = |own: i64, over: i64| if over != 0 { over } else { own };
        self.merged(over, pick)
    }
}

/// Returns an amount in the unit of `name`; 0 when it is invalid.
fn amount(name: &str, quantity: Option<Quantity>) -> i64 {
    match (quantity, name) {
        (None, _) => 0,
        (Some(quantity), "cpu") => quantity.milli(),
        (Some(quantity), _) => quantity.value(),
    }
}

/// A quantity in an object: usually a string, sometimes a number. `None` when it is invalid.
struct Amount(Option<Quantity>);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amounts;
        impl Visitor<'_> for Amounts {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity")
            }

            fn visit_str<E>(self, text: &str) -> Result<Amount, E> {
                Ok(Amount(Quantity::parse(text).ok()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Amount, E> {
                Ok(Amount(Quantity::from_value(&number.into()).ok()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Amount, E> {
                Ok(Amount(Quantity::from_value(&number.into()).ok()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Amount, E> {
                Ok(Amount(Quantity::from_value(&number.into()).ok()))
            }

            fn visit_unit<E>(self) -> Result<Amount, E> {
                Ok(Amount(None))
            }
        }
        deserializer.deserialize_any(Amounts)
    }
}

struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::text(deserializer).map(Name)
    }
}

impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Resources;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of quantities")
            }

            fn visit_unit<E>(self) -> Result<Resources, E> {
                Ok(Resources::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Resources, A::Error> {
                let mut resources = Resources::default();
                let mut other = Vec::new();
                while let Some((Name(name), Amount(quantity))) = map.next_entry()? {
                    let amount = amount(&name, quantity);
                    match &*name {
                        "cpu" => resources.cpu_milli = amount,
                        "memory" => resources.memory = amount,
                        "ephemeral-storage" => resources.ephemeral_storage = amount,
                        "pods" => resources.pods = amount,
                        _ => other.push((shared(&name), amount)),
                    }
                }
                other.sort();
                resources.other = other.into();
                Ok(resources)
            }
        }
        deserializer.deserialize_any(List)
    }
}
