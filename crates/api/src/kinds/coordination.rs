//! `coordination.k8s.io/v1` Lease: the heartbeat of a node, or a leader election.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::kinds::{AGE, Kind, NAME, Strategy, column, row};
use crate::meta;
use crate::print;
use crate::validate::field::{check_non_negative, text};

/// The row of Lease.
pub static LEASE: Kind = Kind {
    columns: &[
        NAME,
        column("Holder", "The identity of the holder of the current lease."),
        AGE,
    ],
    // An update must have a resourceVersion. Otherwise two candidates could both become the leader.
    unconditional_update: false,
    create_on_update: true,
    strategy: Strategy {
        rules,
        update_rules: |new, _, errors| rules(new, errors),
        row: |object, now| {
            let holder = text(&object["spec"], "holderIdentity");
            vec![meta::name(object).into(), holder.into(), print::age(object, now)]
        },
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row("coordination.k8s.io", "v1", "Lease", "leases", "lease");

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let path = &Path::Root("spec");
    let spec = &object["spec"];
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64()
        && seconds <= 0
    {
        let path = path.child("leaseDurationSeconds");
        errors.push(FieldError::invalid(&path, seconds, "must be greater than 0"));
    }
    check_non_negative(spec, "leaseTransitions", path, errors);
}
