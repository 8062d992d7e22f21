//! What becomes of a look at files: a change in the middle of being written is looked at again before it is told.
use super::identity::Fault;

/// What a look at the files found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// As before.
    Same,
    /// What they hold is in use now: the certificate's name, and its last second.
    Renewed(String),
    /// What they hold is of no use, and may be half of a change: look again soon.
    Unsettled,
    /// What they hold is of no use; what was in use stays.
    Kept(String),
}

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Of what is in use.
    used: u128,
    /// Of what was found of no use once, and of what was told to be so.
    doubted: Option<u128>,
    refused: Option<u128>,
    fault: Option<String>,
}

impl Memory {
    pub(super) fn new(used: u128) -> Self {
        Self { used, ..Self::default() }
    }

    /// Why the files are not what is in use.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Judges what the files hold now. `load` makes it usable, `name` says what it is.
    pub(super) fn look<T>(
        &mut self,
        found: u128,
        load: impl FnOnce() -> Result<T, Fault>,
        name: impl FnOnce(&T) -> String,
    ) -> (Look, Option<T>) {
        if found == self.used {
            (self.doubted, self.refused, self.fault) = (None, None, None);
            return (Look::Same, None);
        }
        if self.refused == Some(found) {
            return (Look::Same, None);
        }
        match load() {
            Ok(new) => {
                *self = Self::new(found);
                (Look::Renewed(name(&new)), Some(new))
            }
            Err(_) if self.doubted != Some(found) => {
                self.doubted = Some(found);
                (Look::Unsettled, None)
            }
            Err(fault) => {
                (self.doubted, self.refused) = (None, Some(found));
                let why = fault.to_string();
                self.fault = Some(why.clone());
                (Look::Kept(why), None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(memory: &mut Memory, found: u128, good: bool) -> Look {
        let fault = || Fault { key: "cert", why: "is empty".into(), path: "a".into() };
        memory.look(found, || good.then_some(()).ok_or_else(fault), |()| "a".to_owned()).0
    }

    #[test]
    fn what_is_of_no_use_is_told_once_and_at_the_second_look() {
        let mut memory = Memory::new(1);
        assert_eq!(look(&mut memory, 2, false), Look::Unsettled);
        assert_eq!(memory.fault(), None);
        assert_eq!(look(&mut memory, 2, false), Look::Kept("`a` is empty".into()));
        assert_eq!(look(&mut memory, 2, false), Look::Same);
        assert_eq!(memory.fault(), Some("`a` is empty"));
        assert_eq!(look(&mut memory, 3, true), Look::Renewed("a".into()));
        assert_eq!(memory.fault(), None);
    }

    #[test]
    fn a_change_seen_half_is_not_told() {
        let mut memory = Memory::new(1);
        assert_eq!(look(&mut memory, 2, false), Look::Unsettled);
        assert_eq!(look(&mut memory, 3, true), Look::Renewed("a".into()));
    }

    #[test]
    fn files_put_back_are_no_fault_any_more() {
        let mut memory = Memory::new(1);
        look(&mut memory, 2, false);
        look(&mut memory, 2, false);
        assert_eq!(look(&mut memory, 1, true), Look::Same);
        assert_eq!(memory.fault(), None);
    }
}
