//! The committed definitions in `crds/` equal what the types generate.
//! `make crds` writes them anew.

use std::path::Path;

use assay_api::crd;

#[test]
fn the_committed_definitions_equal_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    for (file, definition) in crd::definitions().unwrap() {
        let generated = crd::to_yaml(&definition).unwrap();
        let committed = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        assert!(
            committed == generated,
            "crds/{file} is not what the types generate: run `make crds` and commit it"
        );
    }
}
