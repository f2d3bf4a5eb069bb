//! `v1` ServiceAccount: the identity of pods in the API.

use crate::kinds::{AGE, Kind, NAME, Strategy, integer, row, subresource};
use crate::meta;
use crate::print;
use crate::validate::field::list;

/// The row of the registry.
pub static KIND: Kind = Kind {
    short_names: &["sa"],
    subresources: &[subresource(
        "token",
        ("authentication.k8s.io", "v1", "TokenRequest"),
        &["create"],
    )],
    columns: &[
        NAME,
        integer("Secrets", "The number of Secrets of the account."),
        AGE,
    ],
    strategy: Strategy {
        row: |object, now| {
            vec![
                meta::name(object).into(),
                list(object, "secrets").len().into(),
                print::age(object, now),
            ]
        },
        ..BASE.strategy
    },
    ..BASE
};

const BASE: crate::kinds::Kind = row("", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount");
