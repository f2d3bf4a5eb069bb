//! Resolves a proxied request to a node, a pod and a port.

use std::sync::Arc;

use api::kinds::Kind;
use api::meta;
use api::status::Status;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::objects::{self, INDEX_NODE, Object};
use crate::routes::Target;
use crate::shared::Shared;

/// Port of a kubelet. The agent itself serves requests for this port.
const KUBELET_PORT: &str = "10250";

/// Destination of a request.
#[derive(Debug, PartialEq)]
pub(super) enum Place {
    /// The agent of a node.
    Agent { node: String },
    /// A port.
    Port(Port),
}

/// A port to which the agent of a node connects.
#[derive(Debug, PartialEq)]
pub(super) struct Port {
    pub(super) node: String,
    /// Owner of the port, for the path of the request to the agent.
    pub(super) of: Of,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// Host and port for errors and the Host header.
    pub(super) host: String,
}

/// Owner of a port.
#[derive(Debug, PartialEq)]
pub(super) enum Of {
    Node,
    Pod {
        namespace: String,
        name: String,
        uid: String,
    },
}

/// Name in the path: `[scheme:]name[:port]`, as in Kubernetes.
#[derive(Debug, PartialEq)]
struct Named<'n> {
    tls: bool,
    name: &'n str,
    port: &'n str,
}

fn named<'n>(text: &'n str, kind: &Kind) -> Result<Named<'n>, Status> {
    let parts: Vec<&str> = text.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => ("", "", ""),
    };
    if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
        let what = kind.kind.to_lowercase();
        return Err(Status::bad_request(format!("invalid {what} request \"{text}\"")));
    }
    Ok(Named {
        tls: scheme == "https",
        name,
        port,
    })
}

/// Resolves `target`. `node` is the node of a daemon, still encoded as in the path.
pub(super) fn find(shared: &Shared, target: &Target, node: Option<&str>) -> Result<Place, Status> {
    let named = named(&target.name, target.kind)?;
    match target.kind.kind {
        "Node" => of_node(shared, target.kind, &named),
        "Pod" => {
            let pod = read(shared, target.kind, &target.namespace, named.name)?;
            of_pod(&pod, &named).map(Place::Port)
        }
        "Service" => of_service(shared, target, &named).map(Place::Port),
        "DaemonSet" => of_daemon(shared, target, &named, node.unwrap_or_default()).map(Place::Port),
        _ => Err(Status::path_not_found()),
    }
}

fn read(shared: &Shared, kind: &'static Kind, namespace: &str, name: &str) -> Result<Value, Status> {
    let object = objects::get(&shared.objects, kind, namespace, name)?;
    objects::value(kind, &object.body)
}

fn of_node(shared: &Shared, kind: &'static Kind, named: &Named<'_>) -> Result<Place, Status> {
    objects::get(&shared.objects, kind, "", named.name)?;
    let node = named.name.to_owned();
    if matches!(named.port, "" | KUBELET_PORT) {
        return Ok(Place::Agent { node });
    }
    let port = number(named.port)
        .ok_or_else(|| Status::bad_request(format!("invalid node request: \"{}\" is no port", named.port)))?;
    Ok(Place::Port(Port {
        host: format!("{node}:{port}"),
        node,
        of: Of::Node,
        port,
        tls: named.tls,
    }))
}

fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

/// Resolves a pod's port: the given number or container port name, else the first port of a
/// container, else the default port of the scheme.
fn of_pod(pod: &Value, named: &Named<'_>) -> Result<Port, Status> {
    let name = meta::name(pod);
    let port = match number(named.port) {
        Some(port) => port,
        None => {
            let found = container_ports(pod).find(|port| named.port.is_empty() || port["name"] == named.port);
            match found.and_then(|port| u16::try_from(port["containerPort"].as_u64()?).ok()) {
                Some(port) => port,
                None if named.port.is_empty() => default_port(named.tls),
                None => {
                    let why = format!("pod \"{name}\" has no port \"{}\"", named.port);
                    return Err(Status::unavailable(why));
                }
            }
        }
    };
    pod_port(pod, port, named.tls)
}

fn default_port(tls: bool) -> u16 {
    match tls {
        true => 443,
        false => 80,
    }
}

fn container_ports(pod: &Value) -> impl Iterator<Item = &Value> {
    let containers = pod["spec"]["containers"].as_array();
    containers
        .into_iter()
        .flatten()
        .filter_map(|container| container["ports"].as_array())
        .flatten()
}

fn pod_port(pod: &Value, port: u16, tls: bool) -> Result<Port, Status> {
    let name = meta::name(pod);
    let unreachable = |why: &str| Status::unavailable(format!("pod \"{name}\" cannot be reached: {why}"));
    let node = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty());
    let node = node.ok_or_else(|| unreachable("it has no node yet"))?;
    let ip = pod["status"]["podIP"].as_str().filter(|ip| !ip.is_empty());
    let ip = ip.ok_or_else(|| unreachable("it has no address yet"))?;
    let host = match ip.contains(':') {
        true => format!("[{ip}]:{port}"),
        false => format!("{ip}:{port}"),
    };
    Ok(Port {
        node: node.to_owned(),
        of: Of::Pod {
            namespace: meta::namespace(pod).to_owned(),
            name: name.to_owned(),
            uid: meta::uid(pod).to_owned(),
        },
        port,
        tls,
        host,
    })
}

/// Resolves a Service to one of its ready endpoints that are pods.
fn of_service(shared: &Shared, target: &Target, named: &Named<'_>) -> Result<Port, Status> {
    let service = read(shared, target.kind, &target.namespace, named.name)?;
    let ports = service["spec"]["ports"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let name_of = |port: &Value| port["name"].as_str().unwrap_or_default().to_owned();
    let wanted = match number(named.port) {
        Some(wanted) => {
            let found = ports.iter().find(|port| port["port"] == wanted);
            found.map(name_of).ok_or_else(|| {
                let why = format!("no service port {wanted} found for service \"{}\"", named.name);
                Status::unavailable(why)
            })?
        }
        None => named.port.to_owned(),
    };
    let none = || Status::unavailable(format!("no endpoints available for service \"{}\"", named.name));
    let slices = objects::prefix(slice_kind()?, &target.namespace);
    let mut choices = Vec::new();
    for object in shared.objects.list(&slices).iter() {
        if object
            .attributes
            .attributes
            .labels
            .get("kubernetes.io/service-name")
            != Some(named.name)
        {
            continue;
        }
        let slice = objects::value(slice_kind()?, &object.body)?;
        let ports = slice["ports"].as_array().into_iter().flatten();
        let port = ports
            .filter(|port| name_of(port) == wanted)
            .find_map(|port| u16::try_from(port["port"].as_u64()?).ok());
        let Some(port) = port else { continue };
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
        choices.extend(ready.map(|endpoint| (endpoint["targetRef"].clone(), port)));
    }
    if choices.is_empty() {
        return Err(none());
    }
    let random = u64::from_le_bytes(shared.random()?);
    let (pod, port) = &choices[(random % choices.len() as u64) as usize];
    if pod["kind"] != "Pod" {
        let why = format!(
            "the endpoint of service \"{}\" is no pod, so no node leads there",
            named.name
        );
        return Err(Status::unavailable(why));
    }
    let name = pod["name"].as_str().unwrap_or_default();
    // A pod that was deleted meanwhile counts as no endpoint.
    let pod = read(shared, pod_kind()?, &target.namespace, name).map_err(|_| none())?;
    pod_port(&pod, *port, named.tls)
}

fn slice_kind() -> Result<&'static Kind, Status> {
    api::kinds::by_kind("discovery.k8s.io", "v1", "EndpointSlice").ok_or_else(Status::path_not_found)
}

fn pod_kind() -> Result<&'static Kind, Status> {
    objects::core("Pod").ok_or_else(Status::path_not_found)
}

/// Resolves a DaemonSet and a node to the current pod.
fn of_daemon(shared: &Shared, target: &Target, named: &Named<'_>, node: &str) -> Result<Port, Status> {
    let set = objects::get(&shared.objects, target.kind, &target.namespace, named.name)?;
    let node = percent_decode_str(node)
        .decode_utf8()
        .map_err(|_| Status::path_not_found())?;
    let prefix = objects::prefix(pod_kind()?, &target.namespace);
    let on_node = shared.objects.list_where(&prefix, INDEX_NODE, &node);
    let mut pods = Vec::new();
    for object in on_node.iter() {
        let pod = objects::value(pod_kind()?, &object.body)?;
        if is_of(&pod, &set) {
            pods.push(pod);
        }
    }
    let pod = choose(&pods).map_err(|why| {
        Status::unavailable(format!("daemonset \"{}\" on node \"{node}\": {why}", named.name))
    })?;
    of_pod(pod, named)
}

fn is_of(pod: &Value, set: &Arc<Object>) -> bool {
    let owners = pod["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten();
    let mut managers = owners.filter(|owner| owner["controller"] == true);
    managers.any(|owner| owner["uid"] == *set.attributes.attributes.uid)
}

/// Returns the pod that serves, of a DaemonSet's pods on one node: it is ready, and preferably not
/// terminating, and then the newest.
fn choose(pods: &[Value]) -> Result<&Value, String> {
    let ready = pods.iter().filter(|pod| is_ready(pod));
    let best = ready.max_by_key(|pod| {
        let metadata = &pod["metadata"];
        let created = metadata["creationTimestamp"].as_str().unwrap_or_default();
        (metadata["deletionTimestamp"].is_null(), created, meta::name(pod))
    });
    best.ok_or_else(|| match pods {
        [] => "no pod of it is there".to_owned(),
        pods => {
            let names: Vec<&str> = pods.iter().map(meta::name).collect();
            format!("its pod {} is not ready", names.join(", "))
        }
    })
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
    ready.any(|condition| condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "d", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n", "containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"podIP": "10.1.1.1", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        change(&mut pod);
        pod
    }

    fn parse(text: &str) -> Result<Named<'_>, Status> {
        named(text, objects::core("Pod").unwrap())
    }

    #[test]
    fn a_name_may_carry_scheme_and_port() {
        let plain = parse("a").unwrap();
        assert_eq!((plain.tls, plain.name, plain.port), (false, "a", ""));
        let port = parse("a:80").unwrap();
        assert_eq!((port.name, port.port), ("a", "80"));
        let tls = parse("https:a:").unwrap();
        assert_eq!((tls.tls, tls.name, tls.port), (true, "a", ""));
        for bad in ["", "ftp:a:1", ":80", "a:b:c:d"] {
            let refused = parse(bad).unwrap_err();
            assert_eq!(
                (refused.code, refused.message),
                (400, format!("invalid pod request \"{bad}\""))
            );
        }
    }

    #[test]
    fn the_port_of_a_pod_is_named_numbered_or_its_first() {
        let with = |text: &str| of_pod(&pod("a", |_| {}), &parse(text).unwrap()).map(|place| place.port);
        assert_eq!(with("a").unwrap(), 8080);
        assert_eq!(with("a:9").unwrap(), 9);
        assert_eq!(with("a:web").unwrap(), 8080);
        assert_eq!(with("a:none").unwrap_err().code, 503);
        let bare = pod("a", |pod| pod["spec"]["containers"] = json!([{}]));
        assert_eq!(of_pod(&bare, &parse("https:a:").unwrap()).unwrap().port, 443);
        let away = pod("a", |pod| pod["status"]["podIP"] = Value::Null);
        assert_eq!(of_pod(&away, &parse("a").unwrap()).unwrap_err().code, 503);
    }

    #[test]
    fn the_daemon_of_a_node_is_the_newest_that_is_ready_and_stays() {
        let old = pod("old", |_| {});
        let new = pod("new", |pod| {
            pod["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z".into()
        });
        let failing = pod("x", |pod| {
            pod["metadata"]["creationTimestamp"] = "2026-01-03T00:00:00Z".into();
            pod["status"]["conditions"] = json!([]);
        });
        let leaving = pod("y", |pod| {
            pod["metadata"]["creationTimestamp"] = "2026-01-03T00:00:00Z".into();
            pod["metadata"]["deletionTimestamp"] = "2026-01-03T00:00:00Z".into();
        });
        let all = [old, new.clone(), failing.clone(), leaving.clone()];
        assert_eq!(choose(&all), Ok(&new));
        assert_eq!(choose(std::slice::from_ref(&leaving)), Ok(&leaving));
        assert_eq!(choose(&[failing]), Err("its pod x is not ready".to_owned()));
        assert!(choose(&[]).is_err());
    }
}
