//! Validation of probes and of lifecycle handlers.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::validate::field::{
    PORTS, check_name, check_non_negative, check_number, check_port, list, present, text,
};
use crate::validate::name;

/// The type of a probe. Each has a rule of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    Liveness,
    Readiness,
    Startup,
}

impl Probe {
    /// The three probes with their fields in a container.
    pub(crate) const ALL: [(Probe, &'static str); 3] = [
        (Probe::Liveness, "livenessProbe"),
        (Probe::Readiness, "readinessProbe"),
        (Probe::Startup, "startupProbe"),
    ];
}

/// Validates a probe.
pub(crate) fn probe(kind: Probe, probe: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    handler(
        probe,
        &["exec", "httpGet", "tcpSocket", "grpc"],
        None,
        path,
        errors,
    );
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        check_non_negative(probe, field, path, errors);
    }
    let grace = &probe["terminationGracePeriodSeconds"];
    if let Some(seconds) = grace.as_i64()
        && seconds <= 0
    {
        let path = path.child("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(&path, seconds, "must be greater than 0"));
    }
    if kind == Probe::Readiness {
        if !grace.is_null() {
            let path = path.child("terminationGracePeriodSeconds");
            errors.push(FieldError::invalid(
                &path,
                grace.clone(),
                "must not be set for readinessProbes",
            ));
        }
    } else if let Some(threshold) = probe["successThreshold"].as_i64()
        && threshold != 1
    {
        errors.push(FieldError::invalid(
            &path.child("successThreshold"),
            threshold,
            "must be 1",
        ));
    }
}

/// Validates `lifecycle` of a container. `grace` is the pod's grace period in seconds, the longest
/// allowed sleep.
pub(crate) fn lifecycle(
    lifecycle: &Value,
    grace: Option<i64>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    for hook in ["postStart", "preStop"] {
        if present(lifecycle, hook) {
            let allowed = ["exec", "httpGet", "tcpSocket", "sleep"];
            handler(&lifecycle[hook], &allowed, grace, &path.child(hook), errors);
        }
    }
}

fn handler(
    owner: &Value,
    allowed: &[&str],
    grace: Option<i64>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let mut found = false;
    for field in allowed.iter().copied().filter(|field| present(owner, field)) {
        let path = &path.child(field);
        if found {
            errors.push(FieldError::forbidden(
                path,
                "may not specify more than 1 handler type",
            ));
            continue;
        }
        found = true;
        let action = &owner[field];
        match field {
            "exec" if list(action, "command").is_empty() => {
                errors.push(FieldError::required(&path.child("command"), ""));
            }
            "httpGet" => http_get(action, path, errors),
            "tcpSocket" => check_port(&action["port"], &path.child("port"), errors),
            "grpc" => {
                let port = action["port"].as_i64().unwrap_or_default();
                check_number(port, PORTS, &path.child("port"), errors);
            }
            "sleep" => sleep(action, grace, path, errors),
            _ => {}
        }
    }
    if !found {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http_get(action: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if text(action, "path").is_empty() {
        errors.push(FieldError::required(&path.child("path"), ""));
    }
    check_port(&action["port"], &path.child("port"), errors);
    let scheme = text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(FieldError::not_supported(
            &path.child("scheme"),
            scheme,
            &["HTTP", "HTTPS"],
        ));
    }
    for header in list(action, "httpHeaders") {
        check_name(
            text(header, "name"),
            name::http_header,
            &path.child("httpHeaders"),
            errors,
        );
    }
}

fn sleep(action: &Value, grace: Option<i64>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let seconds = action["seconds"].as_i64().unwrap_or_default();
    if let Some(grace) = grace
        && !(0..=grace).contains(&seconds)
    {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(path, seconds, detail));
    }
}
