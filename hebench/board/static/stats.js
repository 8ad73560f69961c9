// What hebench/stats computes, in the browser, for the reader's own choice of models and items.
// Rules and reasons: the docstrings of intervals, paired, macro, multiplicity and ranks there.
// Scores are in [0, 1]; null or NaN: not judged. codes: the cluster of each item, or null.
var hebenchStats = (() => {
  "use strict";
  const ROUNDING = 1e-12, PIVOT = 1e-6, TIE = 1e-12;
  const sum = (list) => list.reduce((total, value) => total + value, 0);
  const clip = (x, low, high) => Math.min(high, Math.max(low, x));

  // Distributions

  function logGamma(x) { // Stirling's series, moved up to where it is exact to 1e-14
    let shift = 0;
    for (; x < 12; x++) shift += Math.log(x);
    const y = 1 / (x * x);
    return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) - shift +
      (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y / 1680))) / x;
  }

  function normalTail(z) { // P(Z > z)
    if (z < 0) return 1 - normalTail(-z);
    const density = Math.exp(-z * z / 2) / Math.sqrt(2 * Math.PI);
    if (z > 4) { // continued fraction
      let f = z;
      for (let k = 60; k > 0; k--) f = z + k / f;
      return density / f;
    }
    let term = z, total = z;
    for (let k = 3; term > 1e-17 * total; k += 2) total += term *= z * z / k;
    return 0.5 - density * total;
  }

  // Regularised incomplete beta function, by Lentz's continued fraction.
  function beta(x, a, b) {
    if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - beta(1 - x, b, a);
    let c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), f = d;
    for (let m = 1, delta = 0; m < 10000 && Math.abs(delta - 1) > 1e-15; m++) {
      for (const k of [m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m)),
        -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1))]) {
        d = 1 / (1 + k * x * d);
        c = 1 + k * x / c;
        f *= delta = c * d;
      }
    }
    return f / a * Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) +
      a * Math.log(x) + b * Math.log1p(-x));
  }

  function tTail(t, dof) { // P(T > t)
    if (dof === Infinity) return normalTail(t);
    const half = beta(dof / (dof + t * t), dof / 2, 0.5) / 2;
    return t < 0 ? 1 - half : half;
  }

  function fromTail(tail, p) { // the z with tail(z) = p, by halving
    if (p > 0.5) return -fromTail(tail, 1 - p);
    let low = 0, high = 1;
    while (tail(high) > p && high < 1e300) high *= 2;
    for (let k = 0; k < 100 && high - low > 1e-13 * high; k++) {
      const middle = (low + high) / 2;
      if (tail(middle) > p) low = middle; else high = middle;
    }
    return (low + high) / 2;
  }

  const normalQuantile = (p) => fromTail(normalTail, 1 - p);
  const tQuantile = (p, dof) => fromTail((t) => tTail(t, dof), 1 - p);

  // Exact and two-sided: twice the smaller tail of Binomial(better + worse, 1/2).
  const mcnemar = (better, worse) => better === worse ? 1 :
    2 * beta(0.5, Math.max(better, worse), Math.min(better, worse) + 1);

  // Two models

  // Mean, clusters and cluster-robust standard error of the values that are judged.
  function clustered(values, codes) {
    const kept = [], labels = [], sums = new Map();
    for (let i = 0; i < values.length; i++) {
      if (values[i] === null || Number.isNaN(values[i])) continue;
      kept.push(values[i]);
      labels.push(codes ? codes[i] : i);
    }
    const n = kept.length, mean = sum(kept) / n;
    for (let i = 0; i < n; i++) sums.set(labels[i], (sums.get(labels[i]) || 0) + kept[i] - mean);
    const units = sums.size;
    const squares = sum(Array.from(sums.values(), (x) => x * x));
    const error = Math.sqrt(units / (units - 1) * squares) / n;
    return {n, mean, units, error, unscored: values.length - n};
  }

  const detectable = (se, level, power) =>
    (normalQuantile(0.5 + level / 2) + normalQuantile(power)) * se;

  function around(centre, se, dof, level, low) { // Student's interval and p against 0
    const half = tQuantile(0.5 + level / 2, dof) * se;
    return {low: clip(centre - half, low, 1), high: clip(centre + half, low, 1),
      p: Math.min(1, 2 * tTail(Math.abs(centre) / se, dof))};
  }

  function pairedDifference(a, b, codes = null, level = 0.95, power = 0.8) {
    let better = 0, worse = 0, equal = 0, sumA = 0, sumB = 0, binary = true;
    const differences = Array.from(a, (x, i) => {
      const y = b[i];
      if (x === null || y === null || Number.isNaN(x) || Number.isNaN(y)) return NaN;
      if (x > y) better++; else if (x < y) worse++; else equal++;
      binary = binary && (x === 0 || x === 1) && (y === 0 || y === 1);
      sumA += x;
      sumB += y;
      return x - y;
    });
    const {n, mean, units, error, unscored} = clustered(differences, codes);
    const result = {n, clusters: units, meanA: sumA / n, meanB: sumB / n, difference: mean, better, worse,
      equal, unscored, low: -1, high: 1, p: NaN, test: "none", se: NaN, detectable: NaN};
    if (!n) return result;
    const se = units > 1 && error >= ROUNDING ? error : 1 / units;
    Object.assign(result, {se, detectable: detectable(se, level, power)});
    if (units < 2) return Object.assign(result, {p: 1, test: "undefined: one independent unit"});
    Object.assign(result, around(mean, se, units - 1, level, -1));
    result.test = units < n ? `paired cluster-robust t, ${units} clusters` : "paired t";
    if (binary && units === n) {
      Object.assign(result, {p: mcnemar(better, worse), test: "exact McNemar"});
    }
    return result;
  }

  // Many tasks, many tests

  // Satterthwaite's degrees of freedom of a mean of independent estimates.
  function pooled(errors, units) {
    const variances = errors.map((e) => e * e), total = sum(variances);
    const parts = sum(variances.map((v, i) => v * v / Math.max(1, units[i] - 1)));
    return {se: Math.sqrt(total) / errors.length, dof: total * total / parts};
  }

  // list: results of pairedDifference, one a task.
  function macroDifference(list, level = 0.95, power = 0.8) {
    const {se, dof} = pooled(list.map((x) => x.se), list.map((x) => x.clusters));
    const difference = sum(list.map((x) => x.difference)) / list.length;
    return {difference, se, dof, tasks: list.length, detectable: detectable(se, level, power),
      ...around(difference, se, dof, level, -1)};
  }

  // list: {mean, standardError, clusters} of one model, one a task.
  function macroMean(list, level = 0.95) {
    const {se, dof} = pooled(list.map((x) => x.standardError), list.map((x) => x.clusters));
    const mean = sum(list.map((x) => x.mean)) / list.length;
    const {low, high} = around(mean, se, dof, level, 0);
    return {mean, standardError: se, low, high, dof, tasks: list.length};
  }

  function holm(p) { // NaN: not tested; it stays NaN and does not count
    const order = [...p.keys()].filter((i) => p[i] >= 0).sort((i, j) => p[i] - p[j]);
    const adjusted = p.map(() => NaN);
    let most = 0;
    order.forEach((i, k) => {
      adjusted[i] = most = Math.max(most, Math.min(1, (order.length - k) * p[i]));
    });
    return adjusted;
  }

  // Ranks: ranks.py says how, step by step

  function uniform(x) {
    x ^= x >>> 16; x = Math.imul(x, 0x7feb352d);
    x ^= x >>> 15; x = Math.imul(x, 0x846ca68b);
    return (((x ^ x >>> 16) >>> 0) + 0.5) / 4294967296;
  }

  // Lower Cholesky factor, row by row, of the covariance relative to model 0.
  function factor(v, M) {
    const L = new Float64Array(M * M);
    for (let j = 0; j < M; j++) {
      const rest = (i) => {
        let x = (v[i * M] + v[j * M] - v[i * M + j]) / 2;
        for (let k = 0; k < j; k++) x -= L[i * M + k] * L[j * M + k];
        return x;
      };
      const pivot = rest(j);
      if (pivot <= PIVOT * v[j * M]) continue;
      for (let i = j; i < M; i++) L[i * M + j] = rest(i) / Math.sqrt(pivot);
    }
    return L;
  }

  // scores: M numbers; variances: M*M of the pairs' differences, row by row.
  function rankSets(scores, variances, dof, level = 0.95, draws = 2000) {
    const M = scores.length;
    const keys = Array.from(scores, (score) => Math.round(1e9 * score));
    const order = [...keys.keys()].sort((i, j) => keys[j] - keys[i] || i - j);
    const s = Float64Array.from(order, (i) => scores[i]), v = new Float64Array(M * M);
    order.forEach((i, row) => order.forEach((j, k) => { v[row * M + k] = variances[i * M + j]; }));
    const L = factor(v, M), weight = v.map((x) => 1 / x);
    const largest = new Float64Array(draws), first = new Float64Array(M);
    const z = new Float64Array(M), x = new Float64Array(M);
    for (let d = 0; d < draws; d++) {
      let most = 0;
      for (let m = 0; m < M; m++) {
        const k = 2 * (d * M + m);
        z[m] = Math.sqrt(-2 * Math.log(uniform(k))) * Math.cos(2 * Math.PI * uniform(k + 1));
        let value = 0;
        for (let i = 0, at = m * M; i <= m; i++, at++) value += L[at] * z[i];
        for (let i = 0, at = m * M; i < m; i++, at++) {
          const gap = value - x[i], square = gap * gap * weight[at];
          if (square > most) most = square;
        }
        x[m] = value;
      }
      largest[d] = most;
      for (let m = 0; m < M; m++) x[m] += s[m];
      const top = Math.max(...x) - TIE, best = x.filter((value) => value >= top).length;
      for (let m = 0; m < M; m++) if (x[m] >= top) first[m] += 1 / best / draws;
    }
    const c = Math.sqrt(largest.sort()[Math.ceil(level * draws) - 1]);
    const critical = dof > 0 ? fromTail((t) => tTail(t, dof), normalTail(c)) : Infinity;
    const low = Array(M).fill(1), high = Array(M).fill(M), pBest = Array(M);
    for (let j = 0; j < M; j++) {
      pBest[order[j]] = first[j];
      for (let k = 0; k < j; k++) { // k scored higher, or as high
        if (!(s[k] - s[j] > critical * Math.sqrt(v[k * M + j]))) continue;
        low[order[j]]++;
        high[order[k]]--;
      }
    }
    return {low, high, pBest, bestSet: low.map((rank) => rank === 1), critical};
  }

  return {normalQuantile, tQuantile, mcnemar, pairedDifference, macroDifference, macroMean, holm,
    rankSets};
})();
