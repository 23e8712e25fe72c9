//! The policies that the documents show can be evaluated as they are written.

use std::path::Path;

use api::ImagePolicy;

use crate::CompiledPolicy;

/// The blocks of a document that hold an ImagePolicy.
fn policies(document: &str) -> Vec<ImagePolicy> {
    let blocks = document.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let policies = blocks.filter(|block| block.contains("kind: ImagePolicy"));
    policies
        .map(|block| serde_norway::from_str(block).unwrap())
        .collect()
}

#[test]
fn every_policy_that_the_pages_on_attestations_show_compiles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for page in ["attestations.md", "provenance.md", "vulnerabilities.md"] {
        let shown = policies(&std::fs::read_to_string(folder.join(page)).unwrap());
        assert!(!shown.is_empty(), "{page} shows no policy");
        for policy in shown {
            let compiled = CompiledPolicy::compile("shown", &policy.spec);
            assert!(
                compiled.is_ok_and(|compiled| compiled.wants_attestations()),
                "{page}"
            );
        }
    }
}
