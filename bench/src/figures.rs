//! Figures as they are kept: one object each in `target/bench/results.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Failed;

/// How large the fleet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FleetSize {
    pub(crate) pods: usize,
    pub(crate) workloads: usize,
    pub(crate) images: usize,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What it is, as `engine.key_edit.cpu`.
    pub(crate) name: String,
    pub(crate) value: f64,
    /// As `s`, `s CPU`, `MB`, `B`, `requests`.
    pub(crate) unit: String,
    pub(crate) fleet: FleetSize,
}

/// Every figure measured so far, in a file.
pub(crate) struct Figures {
    file: PathBuf,
    all: Vec<Figure>,
}

impl Figures {
    /// Those in the file; none where it is not there.
    pub(crate) fn open(file: &Path) -> Result<Figures, Failed> {
        let all = match std::fs::read(file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| Failed::new(format!("read {}", file.display()), error))?,
            Err(_) => Vec::new(),
        };
        Ok(Figures {
            file: file.to_owned(),
            all,
        })
    }

    pub(crate) fn all(&self) -> &[Figure] {
        &self.all
    }

    /// Keeps a figure in place of an older one of the same name and fleet, prints it, and writes the file.
    pub(crate) fn note(
        &mut self,
        name: &str,
        value: f64,
        unit: &str,
        fleet: FleetSize,
    ) -> Result<(), Failed> {
        println!(
            "{name:<44} {value:>12.2} {unit:<10} {} pods, {} images",
            fleet.pods, fleet.images
        );
        self.all
            .retain(|figure| figure.name != name || figure.fleet != fleet);
        self.all.push(Figure {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            fleet,
        });
        self.write()
    }

    fn write(&self) -> Result<(), Failed> {
        let failed =
            |error: &dyn std::fmt::Display| Failed::new(format!("write {}", self.file.display()), error);
        let text = serde_json::to_string_pretty(&self.all).map_err(|error| failed(&error))?;
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        }
        std::fs::write(&self.file, text + "\n").map_err(|error| failed(&error))
    }
}
