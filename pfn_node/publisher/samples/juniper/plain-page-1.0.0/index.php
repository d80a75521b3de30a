<?php
/**
 * The one template: lists and single entries alike.
 *
 * @package Plain_Page
 */

get_header();

if ( have_posts() ) {
	while ( have_posts() ) {
		the_post();
		?>
		<article id="post-<?php the_ID(); ?>" <?php post_class(); ?>>
			<h2><a href="<?php the_permalink(); ?>"><?php the_title(); ?></a></h2>
			<p class="meta"><?php echo esc_html( get_the_date() ); ?></p>
			<?php
			the_content();
			wp_link_pages();
			?>
		</article>
		<?php
		if ( is_singular() && ( comments_open() || get_comments_number() ) ) {
			comments_template();
		}
	}
	the_posts_pagination();
} else {
	echo '<p>' . esc_html__( 'Nothing was found here.', 'plain-page' ) . '</p>';
	get_search_form();
}

get_footer();
