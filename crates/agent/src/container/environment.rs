//! A container's environment.
//!
//! Later wins over earlier: services, then envFrom, then env in order. A value may use what stands before it.

use std::collections::HashMap;
use std::net::SocketAddr;

use api::view::ServiceView;
use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};

use super::{Surroundings, downward, expansion};
use crate::cluster::PodRef;
use crate::sources::Sources;

/// Names and values, in the order of first appearance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Environment {
    pairs: Vec<(String, String)>,
    index: HashMap<String, usize>,
}

impl Environment {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let at = *self.index.get(name)?;
        Some(&self.pairs[at].1)
    }

    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.index.get(&name) {
            Some(at) => self.pairs[*at].1 = value,
            None => {
                self.index.insert(name.clone(), self.pairs.len());
                self.pairs.push((name, value));
            }
        }
    }

    pub(crate) fn into_pairs(self) -> Vec<(String, String)> {
        self.pairs
    }
}

/// The environment of `container`; the error is what its status says.
pub(crate) async fn environment(
    sources: &Sources,
    pod: &Pod,
    container: &Container,
    surroundings: &Surroundings,
) -> Result<Environment, String> {
    let identity = PodRef::of(pod);
    let mut env = Environment::default();
    let links = pod
        .spec
        .as_ref()
        .is_none_or(|spec| spec.enable_service_links != Some(false));
    if links {
        for service in sources.services(&identity.namespace).await? {
            service_links(&mut env, &service);
        }
    }
    api_links(&mut env, surroundings.api_address);
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let data = if let Some(reference) = &source.config_map_ref {
            config_map(sources, &identity, &reference.name, reference.optional).await?
        } else if let Some(reference) = &source.secret_ref {
            secret(sources, &identity, &reference.name, reference.optional).await?
        } else {
            None
        };
        for (key, value) in data.into_iter().flatten() {
            env.set(format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => {
                let literal = variable.value.as_deref().unwrap_or_default();
                Some(expansion::expand(literal, |name| env.get(name)))
            }
            Some(source) => value_from(sources, pod, &identity, container, source, surroundings).await?,
        };
        if let Some(value) = value {
            env.set(&variable.name, value);
        }
    }
    Ok(env)
}

/// The value that a source names; `None` when it is missing and may be.
async fn value_from(
    sources: &Sources,
    pod: &Pod,
    identity: &PodRef,
    container: &Container,
    source: &EnvVarSource,
    surroundings: &Surroundings,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        downward::field(pod, &field.field_path, surroundings).map(Some)
    } else if let Some(resource) = &source.resource_field_ref {
        downward::resource(pod, Some(container), resource, surroundings).map(Some)
    } else if let Some(reference) = &source.config_map_key_ref {
        let data = config_map(sources, identity, &reference.name, reference.optional).await?;
        key(
            data,
            "ConfigMap",
            identity,
            &reference.name,
            &reference.key,
            reference.optional,
        )
    } else if let Some(reference) = &source.secret_key_ref {
        let data = secret(sources, identity, &reference.name, reference.optional).await?;
        key(
            data,
            "Secret",
            identity,
            &reference.name,
            &reference.key,
            reference.optional,
        )
    } else {
        Ok(None)
    }
}

type Data = Vec<(String, String)>;

fn key(
    data: Option<Data>,
    kind: &str,
    identity: &PodRef,
    name: &str,
    key: &str,
    optional: Option<bool>,
) -> Result<Option<String>, String> {
    let found = data.into_iter().flatten().find(|(candidate, _)| candidate == key);
    match found {
        Some((_, value)) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None => Err(format!(
            "couldn't find key {key} in {kind} {}/{name}",
            identity.namespace
        )),
    }
}

async fn config_map(
    sources: &Sources,
    identity: &PodRef,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<Data>, String> {
    match sources.config_map(identity, name).await? {
        Some(map) => Ok(Some(map.data.clone().unwrap_or_default().into_iter().collect())),
        None if optional == Some(true) => Ok(None),
        None => Err(format!("configmap \"{name}\" not found")),
    }
}

async fn secret(
    sources: &Sources,
    identity: &PodRef,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<Data>, String> {
    match sources.secret(identity, name).await? {
        Some(secret) => {
            let data = secret.data.iter().flatten();
            let text = data.map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned()));
            Ok(Some(text.collect()))
        }
        None if optional == Some(true) => Ok(None),
        None => Err(format!("secret \"{name}\" not found")),
    }
}

/// Where the API server is, as the Service `kubernetes` would say it.
fn api_links(env: &mut Environment, address: SocketAddr) {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let url = format!("tcp://{address}");
    env.set("KUBERNETES_SERVICE_HOST", host.clone());
    env.set("KUBERNETES_SERVICE_PORT", port.clone());
    env.set("KUBERNETES_SERVICE_PORT_HTTPS", port.clone());
    env.set("KUBERNETES_PORT", url.clone());
    env.set("KUBERNETES_PORT_443_TCP", url);
    env.set("KUBERNETES_PORT_443_TCP_PROTO", "tcp");
    env.set("KUBERNETES_PORT_443_TCP_PORT", port);
    env.set("KUBERNETES_PORT_443_TCP_ADDR", host);
}

/// The variables of one Service, as Docker's links named them.
fn service_links(env: &mut Environment, service: &ServiceView) {
    let (Some(address), Some(first)) = (service.cluster_ips.first(), service.ports.first()) else {
        return;
    };
    let name = constant_case(&service.meta.name);
    env.set(format!("{name}_SERVICE_HOST"), address.to_string());
    env.set(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
        let variable = format!("{name}_SERVICE_PORT_{}", constant_case(&port.name));
        env.set(variable, port.port.to_string());
    }
    for (position, port) in service.ports.iter().enumerate() {
        let protocol = &*port.protocol;
        let lower = protocol.to_ascii_lowercase();
        let url = format!("{lower}://{}", SocketAddr::new(*address, port.port));
        if position == 0 {
            env.set(format!("{name}_PORT"), url.clone());
        }
        let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
        env.set(prefix.clone(), url);
        env.set(format!("{prefix}_PROTO"), lower);
        env.set(format!("{prefix}_PORT"), port.port.to_string());
        env.set(format!("{prefix}_ADDR"), address.to_string());
    }
}

fn constant_case(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_told_as_links() {
        let service = json!({
            "metadata": {"name": "redis-main"},
            "spec": {"clusterIP": "10.0.0.11", "ports": [{"name": "db", "port": 6379, "protocol": "TCP"}]},
        });
        let mut env = Environment::default();
        service_links(&mut env, &serde_json::from_value(service).expect("a service"));
        let expected = [
            ("REDIS_MAIN_SERVICE_HOST", "10.0.0.11"),
            ("REDIS_MAIN_SERVICE_PORT", "6379"),
            ("REDIS_MAIN_SERVICE_PORT_DB", "6379"),
            ("REDIS_MAIN_PORT", "tcp://10.0.0.11:6379"),
            ("REDIS_MAIN_PORT_6379_TCP", "tcp://10.0.0.11:6379"),
            ("REDIS_MAIN_PORT_6379_TCP_PROTO", "tcp"),
            ("REDIS_MAIN_PORT_6379_TCP_PORT", "6379"),
            ("REDIS_MAIN_PORT_6379_TCP_ADDR", "10.0.0.11"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(env.into_pairs(), expected);
    }

    #[test]
    fn a_headless_service_is_not_told() {
        let service =
            json!({"metadata": {"name": "x"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}});
        let mut env = Environment::default();
        service_links(&mut env, &serde_json::from_value(service).expect("a service"));
        assert_eq!(env, Environment::default());
    }

    #[test]
    fn a_name_that_is_set_again_keeps_its_place_and_takes_the_value() {
        let mut env = Environment::default();
        env.set("A", "1");
        env.set("B", "2");
        env.set("A", "3");
        let pairs = [("A", "3"), ("B", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(env.into_pairs(), pairs);
    }
}
