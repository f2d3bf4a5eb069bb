//! Volumes of pods: their sources, and the files of projected volumes.

use super::pod_spec::check;

const NONE: [&str; 0] = [];

#[test]
fn files_of_a_projected_volume_have_different_paths() {
    let volume = |sources: &str| {
        check(&format!(
            "volumes: [{{name: v, projected: {{sources: [{sources}]}}}}]"
        ))
    };
    let duplicate = |bad: &str| {
        vec![format!(
            "spec.volumes[0].projected: Invalid value: \"{bad}\": conflicting duplicate paths"
        )]
    };
    let secret = "{secret: {name: s, items: [{key: k, path: p}]}}";
    let config = "{configMap: {name: c, items: [{key: k, path: p}]}}";
    let field = "{downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.name}}]}}";
    assert_eq!(volume(&format!("{secret}, {config}")), duplicate("c"));
    assert_eq!(volume(&format!("{config}, {field}")), duplicate("p"));
    assert_eq!(
        volume("{secret: {name: s, items: [{key: a, path: p}, {key: b, path: p}]}}"),
        duplicate("s")
    );
    assert_eq!(volume(&format!("{secret}, {{configMap: {{name: c}}}}")), NONE);
}

#[test]
fn volume_downward_api_has_only_fixed_fields() {
    assert_eq!(
        check(
            "volumes: [{name: v, downwardAPI: {items: [{path: file, fieldRef: {fieldPath: spec.nodeName}}]}}]"
        ),
        [
            "spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath: Unsupported value: \"spec.nodeName\": supported values: \
             \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\""
        ]
    );
}

#[test]
fn volume_sources_need_their_required_fields() {
    for (source, missing) in [
        ("image: {}", &["image.reference"][..]),
        ("image: {reference: a}", &[]),
        ("ephemeral: {}", &["ephemeral.volumeClaimTemplate"]),
        (
            "persistentVolumeClaim: {claimName: ''}",
            &["persistentVolumeClaim.claimName"],
        ),
        ("gitRepo: {repository: ''}", &["gitRepo.repository"]),
        ("cephfs: {monitors: []}", &["cephfs.monitors"]),
        ("rbd: {monitors: [a], image: ''}", &["rbd.image"]),
        (
            "azureFile: {secretName: '', shareName: ''}",
            &["azureFile.secretName", "azureFile.shareName"],
        ),
        (
            "csi: {driver: a.b, nodePublishSecretRef: {}}",
            &["csi.nodePublishSecretRef.name"],
        ),
        ("csi: {driver: a.b}", &[]),
    ] {
        let expected: Vec<String> = missing
            .iter()
            .map(|field| format!("spec.volumes[0].{field}: Required value"))
            .collect();
        assert_eq!(
            check(&format!("volumes: [{{name: v, {source}}}]")),
            expected,
            "{source}"
        );
    }
}
