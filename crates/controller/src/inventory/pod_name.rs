//! The name of a pod in a few bytes: nearly every one is that of its controller with a short ending.

use super::climb::ControllerRef;

/// An ending that is longer is held with the whole name.
const ENDING: usize = 14;

/// The name of a pod, to be read with the controller that it was made with.
#[derive(Debug)]
pub(super) enum PodName {
    /// The controller's name with this after it, in the first so many bytes.
    AfterController { length: u8, ending: [u8; ENDING] },
    /// Twice boxed, so that it takes no more room than an ending.
    Whole(Box<Box<str>>),
}

impl PodName {
    /// The name of a pod of this controller.
    pub(super) fn of(name: &str, controller: Option<&ControllerRef>) -> Self {
        let ending = controller.and_then(|controller| name.strip_prefix(&*controller.key.name));
        let Some(ending) = ending.filter(|ending| ending.len() <= ENDING) else {
            return PodName::Whole(Box::new(name.into()));
        };
        let mut bytes = [0; ENDING];
        bytes[..ending.len()].copy_from_slice(ending.as_bytes());
        PodName::AfterController {
            length: ending.len() as u8,
            ending: bytes,
        }
    }

    /// The name again, of a pod of the same controller.
    pub(super) fn text(&self, controller: Option<&ControllerRef>) -> String {
        match self {
            PodName::Whole(name) => name.to_string(),
            PodName::AfterController { length, ending } => {
                let before = controller.map_or("", |controller| &*controller.key.name);
                // It was a text, cut where a text begins.
                let ending = String::from_utf8_lossy(&ending[..usize::from(*length)]);
                format!("{before}{ending}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{WorkloadKey, WorkloadNames};

    fn controller(name: &str) -> ControllerRef {
        ControllerRef {
            key: WorkloadKey::from(WorkloadNames {
                namespace: "shop".into(),
                group: "apps".into(),
                kind: "ReplicaSet".into(),
                name: name.into(),
            }),
            api_version: "apps/v1".into(),
            uid: "1".into(),
        }
    }

    #[test]
    fn every_name_can_be_had_back() {
        let web = controller("web-1");
        for name in [
            "web-1-abcde",
            "web-1",
            "web-1-0123456789ab",
            "web-1-0123456789abc",
            "web-10",
            "web",
            "other",
            "wéb-1-ö",
            "web-1-öööööö",
            "web-1-ööööööö",
        ] {
            for controller in [None, Some(&web)] {
                assert_eq!(PodName::of(name, controller).text(controller), name);
            }
        }
    }

    #[test]
    fn a_name_that_a_controller_gave_takes_no_room_of_its_own() {
        let web = controller("web-1");
        let is_short = |name| matches!(PodName::of(name, Some(&web)), PodName::AfterController { .. });
        assert!(is_short("web-1-abcde") && is_short("web-1-0123456789abc"));
        assert!(!is_short("web-1-0123456789abcd") && !is_short("other"));
        assert_eq!(size_of::<PodName>(), 16);
    }
}
