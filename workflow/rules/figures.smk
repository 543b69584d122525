# Figures: drawn from scores, measurements, similarities and the logs of chosen runs.


# Scores as bars, a panel for each benchmark (Figure 2).
use rule stage as figure_bars with:
    input:
        STUDY.inputs("figure-bars", selections="select", scores="score-*"),
    pathvars:
        stage="figure-bars",


# Memory against trainable parameters (Figure 1, right).
use rule stage as figure_cost with:
    input:
        STUDY.inputs("figure-cost", selections="optional select", scores="measure"),
    pathvars:
        stage="figure-cost",


# The similarity of layers as heat maps (Figures 3, A1, A2).
use rule stage as figure_heat_maps with:
    input:
        STUDY.inputs("figure-heat-maps", selections="select", scores="similarity"),
    pathvars:
        stage="figure-heat-maps",


# The norms of gradients in training (Figures 4, A3, A4).
use rule stage as figure_gradients with:
    input:
        STUDY.inputs("figure-gradients", selections="select"),
    pathvars:
        stage="figure-gradients",
