//! How the last few requests at a replica ended: what people look at first.
use super::outcome::Class;

/// Endings remembered.
const KEPT: usize = 20;

/// The last endings, oldest first. Of a fixed size: noting one allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Recent {
    classes: [Class; KEPT],
    noted: usize,
}

impl Default for Recent {
    fn default() -> Self {
        Self { classes: [Class::Success; KEPT], noted: 0 }
    }
}

impl Recent {
    pub fn note(&mut self, class: Class) {
        self.classes[self.noted % KEPT] = class;
        self.noted = self.noted.wrapping_add(1);
    }

    pub fn iter(&self) -> impl Iterator<Item = Class> + '_ {
        (self.noted.saturating_sub(KEPT)..self.noted).map(|i| self.classes[i % KEPT])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_are_kept_in_order() {
        let mut recent = Recent::default();
        assert_eq!(recent.iter().count(), 0);
        recent.note(Class::Timeout);
        for _ in 0..19 {
            recent.note(Class::Success);
        }
        assert_eq!(recent.iter().next(), Some(Class::Timeout));
        recent.note(Class::Reset);
        assert_eq!(recent.iter().count(), 20);
        assert_eq!(recent.iter().next(), Some(Class::Success));
        assert_eq!(recent.iter().last(), Some(Class::Reset));
    }
}
