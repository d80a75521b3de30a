<?php
/**
 * Everything below the content.
 *
 * @package Plain_Page
 */

?>
</main>
<footer class="meta">
	<p><?php bloginfo( 'description' ); ?></p>
</footer>
<?php wp_footer(); ?>
</body>
</html>
