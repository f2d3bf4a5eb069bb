//! `apps/v1` DaemonSet: one pod on every eligible node.

use std::num::IntErrorKind;

use schema::int_or_percent::IntOrPercent;
use serde_json::{Value, json};

use crate::default;
use crate::field_error::{FieldError, Path, quote};
use crate::kinds::core::pod;
use crate::kinds::{
    AGE, Column, Kind, NAME, StatusField, Strategy, column, integer, proxy_of, row, status_of, wide,
};
use crate::meta;
use crate::print;
use crate::validate::field::{check_immutable, check_non_negative, text};
use crate::validate::{label_selector, name, pod_spec};

/// The number of changes of the template. Kubernetes has deprecated it and still sets it.
pub const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

const REVISION_HISTORY_LIMIT: i64 = 10;
const COUNTERS: [&str; 8] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
];

/// The row of the registry.
pub static KIND: Kind = Kind {
    short_names: &["ds"],
    categories: &["all"],
    subresources: &[
        proxy_of("PodProxyOptions"),
        status_of(("apps", "v1", "DaemonSet")),
    ],
    columns: COLUMNS,
    strategy: Strategy {
        status: StatusField::Separate,
        generation: true,
        decode,
        default,
        create,
        update,
        status_update: |new, old| set_template_generation(new, template_generation(old)),
        rules,
        update_rules,
        status_rules,
        warnings,
        update_warnings: |new, old| match template_generation(new) == template_generation(old) {
            true => Vec::new(),
            false => warnings(new),
        },
        row: table_row,
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row("apps", "v1", "DaemonSet", "daemonsets", "daemonset");

const COLUMNS: &[Column] = &[
    NAME,
    integer(
        "Desired",
        "The total number of nodes that should be running the daemon pod.",
    ),
    integer(
        "Current",
        "The number of nodes that are running at least one daemon pod and are supposed to run it.",
    ),
    integer(
        "Ready",
        "The number of nodes that should be running the daemon pod and have one or more of it ready.",
    ),
    integer(
        "Up-to-date",
        "The total number of nodes that are running an updated daemon pod.",
    ),
    integer(
        "Available",
        "The number of nodes that should be running the daemon pod and have one or more of it available.",
    ),
    column(
        "Node Selector",
        "A selector which must be true for the pod to fit on a node.",
    ),
    AGE,
    wide("Containers", "Names of each container in the template."),
    wide("Images", "Images referenced by each container in the template."),
    wide(
        "Selector",
        "A label query over pods that are managed by the daemon set.",
    ),
];

fn table_row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let pod = &spec["template"]["spec"];
    let [containers, images] = print::containers_and_images(pod);
    vec![
        meta::name(object).into(),
        print::count(status, "desiredNumberScheduled"),
        print::count(status, "currentNumberScheduled"),
        print::count(status, "numberReady"),
        print::count(status, "updatedNumberScheduled"),
        print::count(status, "numberAvailable"),
        print::label_map(&pod["nodeSelector"]),
        print::age(object, now),
        containers,
        images,
        print::label_selector(&spec["selector"]),
    ]
}

/// The annotation must be a number, because it is a number in Kubernetes' internal type.
fn decode(object: &Value) -> Result<(), String> {
    let Some(text) = meta::annotation(object, TEMPLATE_GENERATION) else {
        return Ok(());
    };
    let Err(error) = text.parse::<i64>() else {
        return Ok(());
    };
    let why = match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    Err(format!("strconv.ParseInt: parsing {}: {why}", quote(text)))
}

fn default(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    let Some(spec) = default::object_or_new(fields, "spec") else {
        return;
    };
    if let Some(strategy) = default::object_or_new(spec, "updateStrategy") {
        default::set_text(strategy, "type", "RollingUpdate");
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate")
            && let Some(rolling) = default::object_or_new(strategy, "rollingUpdate")
        {
            default::set_missing(rolling, "maxUnavailable", || 1.into());
            default::set_missing(rolling, "maxSurge", || 0.into());
        }
    }
    default::set_missing(spec, "revisionHistoryLimit", || REVISION_HISTORY_LIMIT.into());
    if let Some(template) = default::object_or_new(spec, "template") {
        default::set_missing(template, "metadata", || json!({}));
        if let Some(pod) = default::object_or_new(template, "spec") {
            default::pod_spec(pod);
        }
    }
}

fn create(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        let zeros = json!({
            "currentNumberScheduled": 0,
            "desiredNumberScheduled": 0,
            "numberMisscheduled": 0,
            "numberReady": 0,
        });
        fields.insert("status".to_owned(), zeros);
    }
    set_template_generation(object, template_generation(object).max(1));
}

fn update(new: &mut Value, old: &Value) {
    let changed = new["spec"]["template"] != old["spec"]["template"];
    set_template_generation(new, template_generation(old) + i64::from(changed));
}

/// Returns the number of changes of the template.
pub fn template_generation(object: &Value) -> i64 {
    meta::annotation(object, TEMPLATE_GENERATION)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let metadata = meta::metadata_mut(object);
    if let Some(annotations) = default::object_or_new(metadata, "annotations") {
        annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string().into());
    }
}

fn warnings(object: &Value) -> Vec<String> {
    let spec = Path::Root("spec");
    pod::template_warnings(&object["spec"]["template"], &spec.child("template"))
}

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    spec_rules(&object["spec"], errors);
}

fn update_rules(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    spec_rules(&new["spec"], errors);
    let spec = Path::Root("spec");
    check_immutable(
        &new["spec"]["selector"],
        &old["spec"]["selector"],
        &spec.child("selector"),
        errors,
    );
}

fn spec_rules(spec: &Value, errors: &mut Vec<FieldError>) {
    let path = &Path::Root("spec");
    let (selector, template) = (&spec["selector"], &spec["template"]);
    let before = errors.len();
    label_selector::label_selector(selector, &path.child("selector"), errors);
    let is_sound = errors.len() == before;
    let template_path = path.child("template");
    let labels = &template["metadata"]["labels"];
    if is_sound && !label_selector::matches(selector, labels) {
        let metadata = template_path.child("metadata");
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(
            &metadata.child("labels"),
            labels.clone(),
            detail,
        ));
    }
    if selector.is_object() && label_selector::is_empty(selector) {
        let detail = "empty selector is invalid for daemonset";
        errors.push(FieldError::invalid(
            &path.child("selector"),
            selector.clone(),
            detail,
        ));
    }
    pod_spec::template(template, &template_path, errors);
    template_rules(&template["spec"], &template_path, errors);
    check_non_negative(spec, "minReadySeconds", path, errors);
    update_strategy(&spec["updateStrategy"], &path.child("updateStrategy"), errors);
    check_non_negative(spec, "revisionHistoryLimit", path, errors);
}

/// Validates what a daemon pod must not have, in addition to the rules of pods.
fn template_rules(pod: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("spec");
    let policy = text(pod, "restartPolicy");
    if policy != "Always" {
        errors.push(FieldError::not_supported(
            &path.child("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if !pod["activeDeadlineSeconds"].is_null() {
        let detail = "activeDeadlineSeconds in DaemonSet is not Supported";
        errors.push(FieldError::forbidden(
            &path.child("activeDeadlineSeconds"),
            detail,
        ));
    }
}

fn update_strategy(strategy: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" if strategy["rollingUpdate"].is_null() => {
            errors.push(FieldError::required(&path.child("rollingUpdate"), ""));
        }
        "RollingUpdate" => rolling_update(&strategy["rollingUpdate"], &path.child("rollingUpdate"), errors),
        other => errors.push(FieldError::not_supported(
            path,
            other,
            &["RollingUpdate", "OnDelete"],
        )),
    }
}

fn rolling_update(rolling: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
    check_int_or_percent(unavailable, &path.child("maxUnavailable"), errors);
    check_int_or_percent(surge, &path.child("maxSurge"), errors);
    check_at_most_all(unavailable, &path.child("maxUnavailable"), errors);
    check_at_most_all(surge, &path.child("maxSurge"), errors);
    match (is_zero(unavailable), is_zero(surge)) {
        (false, false) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(
                &path.child("maxSurge"),
                surge.clone(),
                detail,
            ));
        }
        (true, true) => {
            let detail = "cannot be 0 when maxSurge is 0";
            errors.push(FieldError::required(&path.child("maxUnavailable"), detail));
        }
        _ => {}
    }
}

/// A text that is not a percentage counts as its number, so that there is only one error about it.
fn is_zero(value: &Value) -> bool {
    match IntOrPercent::from_value(value) {
        Some(IntOrPercent::Int(number) | IntOrPercent::Percent(number)) => number == 0,
        None => {
            value
                .as_str()
                .and_then(|text| text.parse::<i64>().ok())
                .unwrap_or_default()
                == 0
        }
    }
}

/// Checks a non-negative number or a percentage.
pub(crate) fn check_int_or_percent(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::String(text) => crate::validate::field::check_name(text, name::percent, path, errors),
        Value::Number(number) if number.as_i64().is_none_or(|number| number < 0) => {
            errors.push(FieldError::invalid(
                path,
                value.clone(),
                "must be greater than or equal to 0",
            ));
        }
        _ => {}
    }
}

/// Checks a percentage of at most 100.
pub(crate) fn check_at_most_all(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(IntOrPercent::Percent(percent)) = IntOrPercent::from_value(value)
        && percent > 100
    {
        errors.push(FieldError::invalid(
            path,
            value.clone(),
            "must not be greater than 100%",
        ));
    }
}

fn status_rules(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let path = &Path::Root("status");
    let status = &new["status"];
    for counter in COUNTERS {
        check_non_negative(status, counter, path, errors);
    }
    check_non_negative(status, "collisionCount", path, errors);
    let collisions = |object: &Value| object["status"]["collisionCount"].as_i64();
    let (now, before) = (collisions(new), collisions(old));
    // Removing the count is also a decrement.
    if before.is_some() && now < before {
        let now = now.unwrap_or_default();
        errors.push(FieldError::invalid(
            &path.child("collisionCount"),
            now,
            "cannot be decremented",
        ));
    }
}
