//! AppArmor profiles that pods ask for.
//!
//! This node confines by namespaces, capabilities, seccomp and devices, and applies no profile. A pod that asks for a profile of the machine relies on
//! it, so it does not run without.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod};
use plan::pod_sync::Failure;

/// The annotation of a container, followed by its name, that the field has replaced.
const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
/// How that annotation names a profile of the machine.
const LOCALHOST: &str = "localhost/";

/// Why a pod is refused for a profile of the machine, under the kubelet's reason.
pub(crate) fn refuse(pod: &Pod) -> Option<Failure> {
    let (owner, profile) = local_profile(pod)?;
    Some(Failure {
        reason: "AppArmor".to_owned(),
        message: format!(
            "Pod was rejected: Cannot enforce AppArmor: this node applies no AppArmor profiles, and {owner} asks for {profile:?}"
        ),
    })
}

/// The first profile of the machine that is asked for, and by whom.
fn local_profile(pod: &Pod) -> Option<(String, String)> {
    let spec = pod.spec.as_ref()?;
    let context = spec.security_context.as_ref();
    let of_pod = context.and_then(|context| local(context.app_armor_profile.as_ref()));
    let of_container = |container: &Container| {
        let context = container.security_context.as_ref()?;
        let profile = local(context.app_armor_profile.as_ref())?;
        Some((format!("container {:?}", container.name), profile))
    };
    let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let of_annotation = |(key, value): (&String, &String)| {
        let name = key.strip_prefix(ANNOTATION)?;
        let profile = value.strip_prefix(LOCALHOST)?;
        Some((format!("container {name:?}"), profile.to_owned()))
    };
    of_pod
        .map(|profile| ("the pod".to_owned(), profile))
        .or_else(|| containers.find_map(of_container))
        .or_else(|| pod.metadata.annotations.iter().flatten().find_map(of_annotation))
}

fn local(profile: Option<&AppArmorProfile>) -> Option<String> {
    let profile = profile.filter(|profile| profile.type_ == "Localhost")?;
    Some(profile.localhost_profile.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(pod: Value) -> Option<String> {
        let failure = refuse(&serde_json::from_value(pod).expect("a pod"))?;
        assert_eq!(failure.reason, "AppArmor");
        let (_, asked) = failure.message.split_once("profiles, and ").expect("who asks");
        Some(asked.to_owned())
    }

    fn profile(kind: &str) -> Value {
        match kind {
            "Localhost" => json!({"appArmorProfile": {"type": kind, "localhostProfile": "p"}}),
            _ => json!({"appArmorProfile": {"type": kind}}),
        }
    }

    #[test]
    fn a_pod_that_relies_on_a_profile_of_the_machine_is_refused() {
        let plain = json!([{"name": "a"}, {"name": "b"}]);
        let of_pod = json!({"spec": {"containers": plain, "securityContext": profile("Localhost")}});
        assert_eq!(refused(of_pod).as_deref(), Some("the pod asks for \"p\""));
        let confined = json!([{"name": "a"}, {"name": "b", "securityContext": profile("Localhost")}]);
        let of_container = Some("container \"b\" asks for \"p\"".to_owned());
        assert_eq!(refused(json!({"spec": {"containers": confined}})), of_container);
        let of_init = json!({"spec": {"containers": plain, "initContainers": confined}});
        assert_eq!(refused(of_init), of_container);
        let annotated = json!({"metadata": {"annotations": {format!("{ANNOTATION}b"): "localhost/p"}}, "spec": {"containers": plain}});
        assert_eq!(refused(annotated), of_container);
    }

    #[test]
    fn other_pods_are_let_in() {
        let plain = json!([{"name": "a"}]);
        for kind in ["RuntimeDefault", "Unconfined"] {
            let pod = json!({"spec": {"containers": plain, "securityContext": profile(kind)}});
            assert_eq!(refused(pod), None, "{kind}");
        }
        let annotations = json!({format!("{ANNOTATION}a"): "runtime/default"});
        let pod = json!({"metadata": {"annotations": annotations}, "spec": {"containers": plain}});
        assert_eq!(refused(pod), None);
    }
}
