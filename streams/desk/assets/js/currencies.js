// Decimal digits of currencies whose minor unit is not a hundredth, by ISO 4217. Browsers follow
// CLDR instead, which writes no cents of HUF, COP or IDR: prices would be a hundred times too high.
const DIGITS = {
  BHD: 3, BIF: 0, CLF: 4, CLP: 0, DJF: 0, GNF: 0, IQD: 3, ISK: 0, JOD: 3, JPY: 0, KMF: 0, KRW: 0,
  KWD: 3, LYD: 3, OMR: 3, PYG: 0, RWF: 0, TND: 3, UGX: 0, UYI: 0, UYW: 4, VND: 0, VUV: 0, XAF: 0,
  XOF: 0, XPF: 0,
};

export const minorDigits = (currency) => DIGITS[currency] ?? 2;
