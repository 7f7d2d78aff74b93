"""Networks: classifiers that give logits and features, and the corrector."""
