//! Writes the definitions into a folder: `cargo run -p assay-api --example write_crds -- crds`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: write_crds FOLDER")?;
    for (file, definition) in assay_api::crd::definitions()? {
        std::fs::write(
            Path::new(&folder).join(file),
            assay_api::crd::to_yaml(&definition)?,
        )?;
    }
    Ok(())
}
