"""What any recommender must beat: counts, trees over them, popularity, TIFU-KNN, item-KNN, ALS; tuned on validation."""
