//! Readings of one side, and the hits among them, that fade.

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fading {
    pub(super) readings: f64,
    pub(super) hits: f64,
    /// Seconds at which they faded last.
    faded: f64,
}

impl Fading {
    /// What is left of them at `age`, in seconds. `fades`: the memory, as a time constant in seconds.
    pub(super) fn at(self, age: f64, fades: f64) -> Self {
        let keeps = (-(age - self.faded).max(0.0) / fades).exp();
        Self { readings: self.readings * keeps, hits: self.hits * keeps, faded: age }
    }

    /// Takes in a reading.
    pub(super) fn note(&mut self, hit: bool, age: f64, fades: f64) {
        *self = self.at(age, fades);
        self.readings += 1.0;
        self.hits += f64::from(u8::from(hit));
    }

    /// The part of hits; 0 without a reading.
    pub(super) fn rate(self) -> f64 {
        if self.readings > 0.0 { self.hits / self.readings } else { 0.0 }
    }
}
