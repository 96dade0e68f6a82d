"""How sure a figure is: intervals of one, and the difference of two on the same rows.

Definitions. Rates: Wilson's score interval. Everything that is a function of sums over rows (mean,
ratio of sums, perplexity = exp(sum nll / sum tokens), F1 from confusion counts): percentile
bootstrap over rows, or over groups where rows share one (a database, a document, a template), since
such rows are not independent; rows that all share the same one are drawn as rows. With few of them
it is widened (`resampling.interval_of`). Tests of paired differences exchange the two sides of each
row or group (`exchanging`); for yes/no outcomes of rows on their own that is McNemar's exact test,
the two-sided binomial test on the rows where the two disagree.

Everything is seeded and does not depend on the order of rows. Rows that could not be scored (None)
are left out, never counted as zero; without any row left the value is None. Direction is always
said: nothing here assumes that higher is better. Nothing is rounded.

Both exact tests and Wilson's interval are `scipy.stats.binomtest`, which takes most of a second to
import: so only whoever needs one does. Agrees with statsmodels' exact McNemar test, and with the
percentiles of numpy's draws of rows scored by scikit-learn (accuracy and macro F1).
"""
