//! Obstacles to an upgrade in place: supervisors that would end the new process with the old one.
//!
//! The first process of a container takes all others with it when it ends. So does systemd with
//! those of a unit, unless it is told which process is the main one now, and so do the small inits
//! of containers with their only child. All others that start processes go on without one.

use std::{env, fs, os::unix::process::parent_id};

/// Programs that end as soon as the child ends that they were started for.
const SMALL_INITS: [&str; 5] = ["tini", "docker-init", "dumb-init", "catatonit", "podman-init"];

/// Where a process runs.
#[derive(Clone, Debug, Default)]
struct Surroundings {
    is_first: bool,
    /// The name of the first process, if that is the parent.
    init: Option<String>,
    is_service: bool,
    is_heard: bool,
}

/// The reason for which this process can't be replaced, if there is one: a sentence's end for
/// people.
pub(super) fn obstacle() -> Option<&'static str> {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_child_of_first = parent_id() == 1;
    let name = || fs::read_to_string("/proc/1/comm").ok();
    let surroundings = Surroundings {
        is_first: std::process::id() == 1,
        init: is_child_of_first.then(name).flatten(),
        is_service: is_set("INVOCATION_ID"),
        is_heard: is_set("NOTIFY_SOCKET"),
    };
    surroundings.obstacle()
}

impl Surroundings {
    fn obstacle(&self) -> Option<&'static str> {
        let init = self.init.as_deref().map(str::trim_end).unwrap_or_default();
        if self.is_first {
            Some("unsupported: the first process of a container can't be replaced, roll it")
        } else if SMALL_INITS.contains(&init) {
            Some("unsupported: the init of the container ends with this process, roll it")
        } else if self.is_service && !self.is_heard {
            Some(
                "unsupported: systemd would end the new process with this one (INVOCATION_ID is \
                 set, and NOTIFY_SOCKET is not: the unit needs Type=notify)",
            )
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supervisors_that_cannot_follow_are_obstacles() {
        let plain = Surroundings::default();
        let service = Surroundings { is_service: true, ..plain.clone() };
        let child_of = |init: &str| Surroundings { init: Some(init.to_owned()), ..plain.clone() };
        for (surroundings, word) in [
            (plain.clone(), None),
            (Surroundings { is_first: true, ..plain.clone() }, Some("container")),
            (service.clone(), Some("Type=notify")),
            (Surroundings { is_heard: true, ..service }, None),
            (child_of("tini\n"), Some("init")),
            (child_of("systemd\n"), None),
        ] {
            let obstacle = surroundings.obstacle();
            assert_eq!(obstacle.is_some(), word.is_some(), "{surroundings:?}: {obstacle:?}");
            let told = obstacle.unwrap_or_default();
            assert!(told.contains(word.unwrap_or_default()), "{surroundings:?}: {told}");
        }
    }
}
