//! The address families of a Service, and the addresses that belong to them: Kubernetes' dual-stack
//! rules.
//!
//! `clusterIP` is the first of `clusterIPs`, for older clients. The first family and the first
//! address of a Service never change. The second ones are added and removed with `ipFamilyPolicy`,
//! and only by an explicit change of it.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::default;
use crate::field_error::{FieldError, Path};
use crate::validate::field::{check_name, check_optional_one_of, list, present, text, texts};
use crate::validate::name;
use crate::view::IpFamily;

/// The `clusterIP` of a headless Service.
pub const NONE: &str = "None";

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// Sets `clusterIPs` of a new Service from `clusterIP`, for clients that set only the latter.
pub(super) fn normalize_new(spec: &mut Map<String, Value>) {
    let ip = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default();
    if !ip.is_empty() {
        let ips = json!([ip]);
        if is_empty(spec.get("clusterIPs")) {
            spec.insert("clusterIPs".to_owned(), ips);
        }
    }
}

/// Completes an update that changes only one of `clusterIP` and `clusterIPs`, and restores assigned
/// values that the update leaves out.
pub(super) fn normalize_update(new: &mut Value, old: &Value) {
    let before = &old["spec"];
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let ip = |spec: &Map<String, Value>| {
        spec.get("clusterIP")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let same_list = |spec: &Map<String, Value>| spec.get("clusterIPs") == Some(&before["clusterIPs"]);
    let was = text(before, "clusterIP");
    let given = ip(spec);
    if given == was {
        if is_empty(spec.get("clusterIPs")) && !list(before, "clusterIPs").is_empty() {
            spec.insert("clusterIPs".to_owned(), before["clusterIPs"].clone());
        }
    } else if same_list(spec) {
        // An older client changes or removes only `clusterIP`.
        match given.as_str() {
            "" => spec.remove("clusterIPs"),
            given => spec.insert("clusterIPs".to_owned(), json!([given])),
        };
    }
    let has_address = |spec: &Value| text(spec, "type") != "ExternalName";
    if !has_address(before) || spec.get("type").and_then(Value::as_str) == Some("ExternalName") {
        return;
    }
    if ip(spec).is_empty() && !was.is_empty() {
        spec.insert("clusterIP".to_owned(), was.into());
    }
    for field in ["clusterIPs", "ipFamilies"] {
        let kept = field != "clusterIPs" || ip(spec) == was;
        if kept && is_empty(spec.get(field)) && !before[field].is_null() {
            spec.insert(field.to_owned(), before[field].clone());
        }
    }
    if is_empty(spec.get("ipFamilyPolicy")) && present(before, "ipFamilyPolicy") {
        spec.insert("ipFamilyPolicy".to_owned(), before["ipFamilyPolicy"].clone());
    }
}

/// Removes the addresses and families from a Service that becomes an ExternalName, unless the
/// update changes them.
pub(super) fn clear_for_external_name(new: &mut Value, old: &Value) {
    let before = &old["spec"];
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if spec.get("clusterIPs") == Some(&before["clusterIPs"]) {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    for field in ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
        if spec.get(field) == Some(&before[field]) {
            spec.remove(field);
        }
    }
}

/// Sets the families and the policy of a Service that is not an ExternalName. `cluster` are the
/// families of the cluster's Service addresses, the primary one first. `old` is null for a new
/// Service. The caller then assigns an address for each family without one in `clusterIPs`, unless
/// the Service is headless.
///
/// A Service that prefers two families gets or loses the second one only by an explicit request,
/// and never because the cluster has changed.
pub fn settle(service: &mut Value, old: &Value, cluster: &[IpFamily]) -> Result<(), Vec<FieldError>> {
    let before = &old["spec"];
    let Some(spec) = service.get_mut("spec") else {
        return Ok(());
    };
    let same = |spec: &Value, field: &str| spec[field] == before[field];
    let prefers = |spec: &Value| text(spec, "ipFamilyPolicy") == PREFER;
    if prefers(spec)
        && prefers(before)
        && same(spec, "type")
        && same(spec, "clusterIPs")
        && same(spec, "ipFamilies")
    {
        return Ok(());
    }
    if text(spec, "ipFamilyPolicy").is_empty() {
        let policy = match text(before, "ipFamilyPolicy") {
            "" => SINGLE,
            policy => policy,
        };
        spec["ipFamilyPolicy"] = policy.into();
    }
    let mut errors = Vec::new();
    rules(spec, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let root = Path::Root("spec");
    let refuse = |spec: &Value, detail: &str| {
        FieldError::invalid(
            &root.child("ipFamilyPolicy"),
            spec["ipFamilyPolicy"].clone(),
            detail,
        )
    };
    if !old.is_null() {
        release(spec, before, &mut |spec, detail| {
            errors.push(refuse(spec, detail))
        });
    }
    let is_single = text(spec, "ipFamilyPolicy") == SINGLE;
    if is_single && list(spec, "clusterIPs").len() == 2 {
        let detail =
            "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified";
        errors.push(refuse(spec, detail));
    }
    if is_single && list(spec, "ipFamilies").len() == 2 {
        let detail =
            "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
        errors.push(refuse(spec, detail));
    }
    let mut families: Vec<IpFamily> = families(spec);
    let headless = is_headless(spec);
    if !headless {
        let ips = addresses(spec);
        for (index, ip) in ips.iter().enumerate().skip(families.len()) {
            let family = IpFamily::of(*ip);
            match cluster.contains(&family) {
                true => families.push(family),
                false => {
                    let detail = format!("{} is not configured on this cluster", family.as_str());
                    let given = spec["clusterIPs"].clone();
                    errors.push(FieldError::invalid(
                        &root.child("clusterIPs").index(index),
                        given,
                        detail,
                    ));
                }
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    // The families of a headless Service with manual endpoints do not depend on the cluster.
    let by_hand = headless && spec["selector"].as_object().is_none_or(Map::is_empty);
    if !by_hand {
        if text(spec, "ipFamilyPolicy") == REQUIRE && cluster.len() < 2 {
            errors.push(refuse(
                spec,
                "this cluster is not configured for dual-stack services",
            ));
        }
        for (index, family) in families.iter().enumerate() {
            if !cluster.contains(family) {
                let path = root.child("ipFamilies");
                let detail = "not configured on this cluster";
                errors.push(FieldError::invalid(&path.index(index), family.as_str(), detail));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
    }
    if families.is_empty() {
        families.extend(cluster.first());
    }
    if !is_single
        && let [one] = families[..]
        && (by_hand || cluster.len() == 2)
    {
        families.push(match one {
            IpFamily::V4 => IpFamily::V6,
            IpFamily::V6 => IpFamily::V4,
        });
    }
    let names: Vec<&str> = families.into_iter().map(IpFamily::as_str).collect();
    spec["ipFamilies"] = json!(names);
    Ok(())
}

/// Removes the second address and family from a Service that becomes SingleStack. It is an error to
/// remove one of them with another policy.
fn release(spec: &mut Value, before: &Value, refuse: &mut dyn FnMut(&Value, &str)) {
    let is_single = text(spec, "ipFamilyPolicy") == SINGLE;
    let reduced = |spec: &Value, field: &str| match (list(before, field), list(spec, field)) {
        ([was, _], [now]) => was == now,
        _ => false,
    };
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        if is_single {
            if spec[field] == before[field]
                && let Some(both) = spec[field].as_array_mut()
            {
                both.truncate(1);
            }
        } else if reduced(spec, field) {
            refuse(
                spec,
                &format!("must be 'SingleStack' to release the secondary {what}"),
            );
        }
    }
}

/// Returns the families in `ipFamilies`.
pub fn families(spec: &Value) -> Vec<IpFamily> {
    let known = texts(spec, "ipFamilies").filter_map(|family| match family {
        "IPv4" => Some(IpFamily::V4),
        "IPv6" => Some(IpFamily::V6),
        _ => None,
    });
    known.collect()
}

/// Returns the addresses in `clusterIPs`; none for a headless Service.
pub fn addresses(spec: &Value) -> Vec<IpAddr> {
    texts(spec, "clusterIPs")
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

/// Returns whether the Service is headless.
pub fn is_headless(spec: &Value) -> bool {
    text(spec, "clusterIP") == NONE || texts(spec, "clusterIPs").next() == Some(NONE)
}

/// Validates `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` of a Service together.
pub(super) fn rules(spec: &Value, errors: &mut Vec<FieldError>) {
    if text(spec, "type") == "ExternalName" {
        return;
    }
    let root = &Path::Root("spec");
    let before = errors.len();
    let ips_path = root.child("clusterIPs");
    let ips: Vec<&str> = texts(spec, "clusterIPs").collect();
    let given = || spec["clusterIPs"].clone();
    match (text(spec, "clusterIP"), ips.first()) {
        ("", Some(_)) => {
            let detail = "must be empty when `clusterIP` is not specified";
            errors.push(FieldError::invalid(&ips_path, given(), detail));
        }
        ("", None) => {}
        (_, None) => errors.push(FieldError::required(&ips_path, "")),
        (one, Some(first)) if one != *first => {
            errors.push(FieldError::invalid(
                &ips_path,
                given(),
                "first value must match `clusterIP`",
            ));
        }
        _ => {}
    }
    let families_path = root.child("ipFamilies");
    let families: Vec<&str> = texts(spec, "ipFamilies").collect();
    for (index, family) in families.iter().enumerate() {
        let path = families_path.index(index);
        if !FAMILIES.contains(family) {
            errors.push(FieldError::not_supported(&path, *family, &FAMILIES));
        }
        if families[..index].contains(family) {
            errors.push(FieldError::duplicate(&path, *family));
        }
    }
    check_optional_one_of(spec, "ipFamilyPolicy", &[PREFER, REQUIRE, SINGLE], root, errors);
    let sound = errors.len();
    for (index, ip) in ips.iter().enumerate() {
        if index == 0 && *ip == NONE {
            if ips.len() > 1 {
                let detail = "'None' must be the first and only value";
                errors.push(FieldError::invalid(&ips_path, given(), detail));
            }
        } else {
            check_name(ip, name::ip, &ips_path.index(index), errors);
        }
    }
    let invalid = errors.len() > sound;
    if ips.len() > 2 {
        errors.push(FieldError::invalid(
            &ips_path,
            given(),
            "may only hold up to 2 values",
        ));
    }
    if invalid {
        return;
    }
    let parsed = addresses(spec);
    let is_twice = |ip: &IpAddr| {
        parsed
            .iter()
            .filter(|other| other.is_ipv4() == ip.is_ipv4())
            .count()
            > 1
    };
    if parsed.iter().any(is_twice) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&ips_path, given(), detail));
    }
    if errors.len() > before {
        return;
    }
    for (index, (ip, family)) in parsed.iter().zip(&families).enumerate() {
        if IpFamily::of(*ip).as_str() != *family {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(&ips_path.index(index), ips[index], detail));
        }
    }
}

/// Validates an update of the addresses and families: the first ones are immutable, the second ones
/// are removed only with the policy.
pub(super) fn update_rules(after: &Value, before: &Value, errors: &mut Vec<FieldError>) {
    if [after, before]
        .iter()
        .any(|spec| text(spec, "type") == "ExternalName")
    {
        return;
    }
    if is_headless(before) && is_headless(after) {
        return;
    }
    may_not_change("clusterIPs", "clusterIP", after, before, errors);
    if is_headless(before) == is_headless(after) {
        may_not_change("ipFamilies", "ipFamily", after, before, errors);
    }
}

fn may_not_change(
    field: &'static str,
    one: &str,
    after: &Value,
    before: &Value,
    errors: &mut Vec<FieldError>,
) {
    let root = &Path::Root("spec");
    let path = &root.child(field);
    let (was, now) = (list(before, field), list(after, field));
    let mut invalid = |index: usize, detail: &str| {
        errors.push(FieldError::invalid(
            &path.index(index),
            after[field].clone(),
            detail,
        ))
    };
    if was.len() == now.len() {
        for (index, (was, now)) in was.iter().zip(now).enumerate() {
            if was != now {
                invalid(index, "may not change once set");
            }
        }
        return;
    }
    match (was.first(), now.first()) {
        (Some(_), None) => invalid(0, &format!("primary {one} can not be unset")),
        (Some(was), Some(now)) if was != now => invalid(0, "may not change once set"),
        _ => {}
    }
    if was.len() > now.len() && now.len() == 1 && text(after, "ipFamilyPolicy") != SINGLE {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        let policy = after["ipFamilyPolicy"].clone();
        errors.push(FieldError::invalid(&root.child("ipFamilyPolicy"), policy, detail));
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// Sets the addresses of a Service, in the order of its families.
pub fn set_addresses(service: &mut Value, ips: &[String]) {
    if let Some(spec) = default::object(service, "spec")
        && let Some(first) = ips.first()
    {
        spec.insert("clusterIP".to_owned(), first.as_str().into());
        spec.insert("clusterIPs".to_owned(), json!(ips));
    }
}
